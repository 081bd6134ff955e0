"""Token ids that a request brings in place of texts, and the text that they stand for."""

import asyncio

from glmserve.api.common.base import invalid
from glmserve.generation.detokenizer import Detokenizer
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.registry import ServedModel

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
