"""Token ids that a request brings, and the text that they stand for."""

import asyncio

from server.errors import InvalidRequest
from server.registry import ServedModel
from server.text import Detokenizer

_INLINE_IDS = 2000
"""Below this, decoding is quicker than going to a thread and back."""


def is_token_ids(value: object) -> bool:
    """Return whether ``value`` is a list of token ids, one at least."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def known_ids(ids: tuple[int, ...], vocab_size: int, field: str) -> tuple[int, ...]:
    """Return ``ids``. Raises InvalidRequest about ``field`` where one is none of the model's vocabulary."""
    for token_id in ids:
        if not 0 <= token_id < vocab_size:
            raise InvalidRequest(
                f"{field}: {token_id} is no token of this model, whose ids go from 0 to {vocab_size - 1}", param=field
            )
    return ids


async def decoded(ids: tuple[int, ...], model: ServedModel) -> str:
    """Return the text that ``ids`` stand for; special tokens are no text."""
    tokenizer = model.tokenizer

    def decode() -> str:
        detokenizer = Detokenizer(strip_leading_space=tokenizer.strips_leading_space)
        return "".join([detokenizer.feed(tokenizer.piece(token_id)) for token_id in ids]) + detokenizer.finish()

    return decode() if len(ids) < _INLINE_IDS else await asyncio.to_thread(decode)
