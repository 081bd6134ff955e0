"""The prompt of a conversation that is too long for the context, without its oldest part."""

from collections.abc import Awaitable, Callable

from glmserve.http.errors import TextTooLong
from glmserve.model_pool.registry import EncodedPrompt

_ROOM_KEPT = 512
_ROOM_KEPT_SHARE = 4

EncodeFrom = Callable[[int], Awaitable[EncodedPrompt]]
"""Encodes a conversation without its first N parts."""


async def encode_latest(encode: EncodeFrom, last: int, context_length: int) -> EncodedPrompt:
    """Return the prompt with the latest that the context holds beside some room to answer.

    Halving finds how much that is in a few encodings however long the conversation is. The oldest is left out by the
    stride: the next requests of the conversation then begin with the same part, and find their prompt in the cache.

    Args:
        encode: gives the prompts.
        last: the most parts that can be left out; that prompt is returned even where it does not fit.
        context_length: tokens of prompt and answer together.

    Raises:
        TextTooLong: even the last prompt is so long that it was not tokenised.
    """
    # A part is a token at least: of a million parts, most need not be looked at.
    hopeless = max(0, last - context_length)
    prompt = None if hopeless else await _encode_if_fits(encode, 0, context_length)
    if prompt is not None:
        return prompt
    low, high = max(1, hopeless), last
    while low < high:
        middle = (low + high) // 2
        if await _encode_if_fits(encode, middle, context_length) is None:
            low = middle + 1
        else:
            high = middle
    return await encode(min(last, next_stride(low, last - low)))


def next_stride(first: int, fitting: int) -> int:
    """Return a part from ``first`` on that stays the same while a conversation grows by some parts.

    Of the ``fitting`` ones after ``first`` at least half are kept: the stride is a power of two up to half of them, so
    that it seldom changes with the length of parts.
    """
    stride = 1 << max(0, (fitting // 2).bit_length() - 1)
    return -(-first // stride) * stride


async def _encode_if_fits(encode: EncodeFrom, first: int, context_length: int) -> EncodedPrompt | None:
    """Return the prompt, or None where it leaves too little room to answer."""
    kept = min(_ROOM_KEPT, context_length // _ROOM_KEPT_SHARE)
    try:
        prompt = await encode(first)
    except TextTooLong:
        return None
    return prompt if len(prompt.ids) + kept <= context_length else None
