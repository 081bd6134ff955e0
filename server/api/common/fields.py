"""Fields that several endpoints share: model, stream, token ids and sampling, and their ``SamplingParams``."""

import asyncio
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from glmserve.api.common.base import ApiModel, invalid
from glmserve.engine.params import MAX_BIAS, MAX_TOKENS, SamplingParams
from glmserve.generation.detokenizer import Detokenizer
from glmserve.generation.generate import SEED_SPAN, PrefixSalts
from glmserve.http.errors import InvalidRequest, shown
from glmserve.model_pool.served_model import ModelCard, ServedModel

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)


def as_number(value: object) -> object:
    """Return the number in a string; any other value unchanged."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


def _whole(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    value = as_number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


AsNumber = BeforeValidator(as_number)
"""Takes the text of a number for the number. Anything else is left to the type."""

AsWhole = BeforeValidator(_whole)
"""The same for whole numbers."""

UNLIMITED = -1
"""A limit of tokens that asks for as many as there is room for."""

TokenLimit = Annotated[
    Annotated[int, Field(ge=UNLIMITED), AsWhole] | None,
    AfterValidator(lambda value: value or None),
    Field(
        description="Token limit of the answer, reduced to the space left in the context. -1: all of that space. "
        "0: not set."
    ),
]
"""Token limit of an answer. 0 is the same as absent: programs send it for an empty field."""


ModelName = Annotated[str | None, Field(description="Name of the model. Absent or null: the server's default model.")]

AnswerCount = Annotated[
    Annotated[int, Field(ge=1), AsWhole] | None,
    Field(description="Number of answers, at most 128. Also limited to --parallel plus --max-waiting."),
]

Stream = Annotated[bool | None, Field(description="true: send the answer as server-sent events while it is generated.")]


class StreamOptions(ApiModel):
    """Content of a stream."""

    include_usage: bool | None = None


StreamOptionsField = Annotated[
    StreamOptions | None, Field(description="include_usage: add a last chunk with the token counts.")
]

TEMPERATURE = "Sampling temperature. 0 always selects the most likely token (greedy decoding)."
TOP_P = "Sample from the most likely tokens with this total probability. 0 keeps only the most likely token."
"""Descriptions of fields whose bounds differ between endpoints."""


_INLINE_IDS = 2000
"""Below this, decoding is quicker than going to a thread and back."""


TextOrIds = str | tuple[int, ...]
"""A text, or its token ids."""

TEXTS_OR_IDS = str | list[int] | list[str] | list[list[int]]
"""JSON schema of a field that ``texts_or_ids`` reads."""


def texts_or_ids(value: object, most: int, name: str) -> tuple[TextOrIds, ...]:
    """Return a text or token ids, or a list of ``most`` of them; each is a ``name``. Raises for a validator."""
    several = [value] if isinstance(value, str) or _is_token_ids(value) else value
    if not isinstance(several, list) or not several:
        raise invalid("must be a string, token ids, or a non-empty list of these")
    if len(several) > most:
        raise invalid(f"may have at most {most} {name}s, not {len(several)}")
    return tuple(_text_or_ids(item, f"{name} {index}") for index, item in enumerate(several))


def _text_or_ids(value: object, name: str) -> TextOrIds:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and _is_token_ids(value):
        return tuple(value)
    raise invalid(f"{name} must be a string, or a non-empty list of token ids")


def _is_token_ids(value: object) -> bool:
    """Return whether ``value`` is a list of token ids, one at least."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def known_ids(ids: tuple[int, ...], vocab_size: int, field: str) -> tuple[int, ...]:
    """Return ``ids``. Raises InvalidRequest about ``field`` where one is none of the model's vocabulary."""
    for token_id in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token_id < vocab_size:
            raise InvalidRequest(
                f"{field}: {token_id} is not a token id of this model; its ids are 0 to {vocab_size - 1}", param=field
            )
    return ids


async def decoded(ids: tuple[int, ...], model: ServedModel) -> str:
    """Return the text that ``ids`` stand for; special tokens are no text."""
    tokenizer = model.tokenizer

    def decode() -> str:
        detokenizer = Detokenizer(strip_leading_space=tokenizer.strips_leading_space)
        return "".join([detokenizer.feed(tokenizer.piece(token_id)) for token_id in ids]) + detokenizer.finish()

    return decode() if len(ids) < _INLINE_IDS else await asyncio.to_thread(decode)


_MAX_STOPS = 16
_MAX_BIASES = 4096
_MAX_STOP_CHARACTERS = 1000
_LEAST_TOP_P = 1e-6


def _stops(value: object) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("must be a string or a list of strings")
    if len(stops) > _MAX_STOPS:
        raise invalid(f"may have at most {_MAX_STOPS} strings, not {len(stops)}")
    if any(len(stop) > _MAX_STOP_CHARACTERS for stop in stops):
        raise invalid(f"may have at most {_MAX_STOP_CHARACTERS} characters in a string")
    # The empty string would end every answer before it starts, which nobody who sends one means.
    return tuple(stop for stop in stops if stop)


_Stops = Annotated[list[Annotated[str, Field(max_length=_MAX_STOP_CHARACTERS)]], Field(max_length=_MAX_STOPS)]


def _biases(value: object) -> tuple[tuple[int, float], ...]:
    if value is None or value == []:
        return ()
    if not isinstance(value, dict):
        raise invalid("must be an object of token ids and biases")
    if len(value) > _MAX_BIASES:
        raise invalid(f"may have at most {_MAX_BIASES} tokens, not {len(value)}")
    return tuple((_token_id(key), _bias(bias, key)) for key, bias in value.items())


def _token_id(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) <= 9):
        raise invalid(f"{shown(key)} is not a token id; /tokenize returns the ids of a text")
    return int(key)


def _bias(value: object, key: str) -> float:
    value = as_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_BIAS <= value <= MAX_BIAS:
        raise invalid(f"the bias of {shown(key)} must be a number from -{MAX_BIAS:g} to {MAX_BIAS:g}")
    return float(value)


_Biases = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]],
    Field(max_length=_MAX_BIASES, json_schema_extra={"additionalProperties": False}),
]

LogitBias = Annotated[
    tuple[tuple[int, float], ...],
    BeforeValidator(_biases, json_schema_input_type=_Biases | None),
]
"""An object of token ids, as strings, and biases added to their logits; null is none."""

StopStrings = Annotated[tuple[str, ...], BeforeValidator(_stops, json_schema_input_type=str | _Stops | None)]
"""A string or a list of them, bounded; null is none."""


class SamplingFields(ApiModel):
    """The fields that say how an answer is sampled and where it ends, but for its length."""

    temperature: Annotated[float, Field(ge=0, le=2), AsNumber] | None = Field(default=None, description=TEMPERATURE)
    top_p: Annotated[float, Field(ge=0, le=1), AsNumber] | None = Field(default=None, description=TOP_P)
    top_k: Annotated[int, Field(ge=-1, lt=2**31), AsWhole] | None = Field(
        default=None, description="Extension. Sample from the k most likely tokens. 0 and -1 disable the limit."
    )
    min_p: Annotated[float, Field(ge=0, le=1), AsNumber] | None = Field(
        default=None,
        description="Extension. Drop tokens less likely than this fraction of the most likely token's probability.",
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2), AsNumber] | None = Field(
        default=None, description="Subtracted from the logit of each token that the text already contains."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2), AsNumber] | None = Field(
        default=None, description="Subtracted from the logit of a token once per occurrence in the text."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=2), AsNumber] | None = Field(
        default=None, description="Extension. Values above 1 make repeated tokens less likely; 1 has no effect."
    )
    min_tokens: Annotated[int, Field(ge=0), AsWhole] | None = Field(
        default=None,
        description="Extension. Minimum number of tokens before an end token. A stop string still ends the answer.",
    )
    ignore_eos: bool | None = Field(
        default=None, description="Extension. true: do not stop at an end token; generate up to the token limit."
    )
    stop: StopStrings = Field(
        default=(), description="String or strings that end the answer. Empty strings are ignored."
    )
    seed: Annotated[int, AsWhole] | None = Field(
        default=None, description="Seed of the random number generator. Answer i of n uses seed + i."
    )
    logit_bias: LogitBias = Field(
        default=(), description="Bias to add to the logit of each token id (written as a string). -100 bans the token."
    )


class CacheFields(ApiModel):
    """The fields that say who else may find the prompt in the prefix cache."""

    cache_salt: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Extension. Only requests with the same salt share the cached prompt."
    )
    prompt_cache_key: str | None = Field(
        default=None, description="Requests of one API key with different values share only the cached system messages."
    )

    @property
    def salts(self) -> PrefixSalts:
        """Return the salts that these fields set."""
        return PrefixSalts(self.cache_salt or "", self.prompt_cache_key or "")


def to_sampling(fields: SamplingFields, card: ModelCard) -> SamplingParams:
    """Return the sampling of an answer of any length, with the model's defaults for absent fields."""
    defaults = card.defaults
    return SamplingParams(
        max_tokens=MAX_TOKENS,
        temperature=_or(fields.temperature, defaults.temperature),
        top_p=max(_or(fields.top_p, defaults.top_p), _LEAST_TOP_P),
        top_k=max(defaults.top_k if fields.top_k is None else fields.top_k, 0),
        min_p=_or(fields.min_p, 0.0),
        repetition_penalty=_or(fields.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=_or(fields.presence_penalty, 0.0),
        frequency_penalty=_or(fields.frequency_penalty, 0.0),
        seed=None if fields.seed is None else fields.seed % SEED_SPAN,
        min_tokens=min(fields.min_tokens or 0, MAX_TOKENS),
        ignore_eos=bool(fields.ignore_eos),
        logit_bias=fields.logit_bias,
    )


def token_limit(max_tokens: int | None, min_tokens: int | None) -> int | None:
    """Return the token limit that a request asks for; None where it asks for none.

    Args:
        max_tokens: its ``max_tokens``, of which ``UNLIMITED`` is all that the context leaves.
        min_tokens: its ``min_tokens``.

    Raises:
        InvalidRequest: ``min_tokens`` is more than ``max_tokens``.
    """
    if max_tokens == UNLIMITED:
        return MAX_TOKENS
    if max_tokens is not None and (min_tokens or 0) > max_tokens:
        raise InvalidRequest(
            f"min_tokens must be at most the {max_tokens} tokens that the answer may have, not {min_tokens}",
            param="min_tokens",
        )
    return max_tokens


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
