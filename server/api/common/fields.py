"""Fields that several endpoints have, declared once: type, bounds and description; numbers and token ids as input."""

import asyncio
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from glmserve.api.common.base import ApiModel, invalid
from glmserve.generation.detokenizer import Detokenizer
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.registry import ServedModel

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
