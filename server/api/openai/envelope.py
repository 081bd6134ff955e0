"""Shared by replies of several kinds: head, token counts, and finish reasons."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from glmserve.api.openai.response_types import Finish, TimingsObject, UsageObject
from glmserve.engine.messages import FinishReason
from glmserve.generation.generation import Timings, Usage
from glmserve.model_pool.registry import ModelCard

FINISH_REASONS: Mapping[FinishReason, Finish] = MappingProxyType(
    {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
)


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """Fields that all chunks of one answer have in common."""

    id: str
    created: int
    model: str
    fingerprint: str | None = None
    """``system_fingerprint``."""


def new_head(prefix: str, card: ModelCard) -> ReplyHead:
    """Return the head of one answer of a model; ``prefix`` is the prefix of its id, such as ``chatcmpl``."""
    return ReplyHead(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), card.name, card.fingerprint or None)


def timings_object(usage: Usage, timings: Timings) -> TimingsObject:
    """Return the engine's times; a rate is 0 where nothing was measured.

    The first token of an answer belongs to the time of the prompt, so that ``predicted_per_second`` counts the others.
    """
    computed = usage.prompt_tokens - usage.cached_tokens
    later = max(0, usage.completion_tokens - 1)
    return {
        "queue_ms": _milliseconds(timings.queue_seconds),
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": _milliseconds(timings.prompt_seconds),
        "prompt_per_second": _rate(computed, timings.prompt_seconds),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": _milliseconds(timings.predicted_seconds),
        "predicted_per_second": _rate(later, timings.predicted_seconds),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def usage_object(usage: Usage) -> UsageObject:
    """Return the token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
