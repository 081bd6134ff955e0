"""Waits for a prefix that another sequence is computing, instead of computing it again. Pure."""

from collections.abc import Callable, Iterable

from glmserve.engine.kv_cache.manager import MIN_SHARED
from glmserve.engine.kv_cache.prefix_cache import common_prefix
from glmserve.engine.sequence import Sequence, SequenceStatus


def has_prefix_owner(waiting: Sequence, running: Iterable[Sequence], cached: Callable[[Sequence], int]) -> bool:
    """Return whether one of ``running`` is about to compute more of this prompt than is ``cached``, and note which."""
    prefix_owner = waiting.prefix_owner
    if prefix_owner is not None and prefix_owner.status is SequenceStatus.RUNNING:
        if prefix_owner.num_computed_tokens < waiting.prefix_owner_length:
            return True
        waiting.prefix_owner = None
    prompt, limit = waiting.prompt_keys, waiting.num_matchable_tokens
    for other in running:
        if other.is_decoding or other.num_uncomputed_tokens < MIN_SHARED:
            continue
        shared = min(limit, common_prefix(prompt, other.prompt_keys))
        # A prompt that is scored is computed although the cache holds it: then there is nothing to wait for.
        if shared >= other.num_computed_tokens + MIN_SHARED and shared >= cached(waiting) + MIN_SHARED:
            waiting.prefix_owner, waiting.prefix_owner_length = other, shared
            return True
    return False
