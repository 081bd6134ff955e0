"""Shared by OpenAI's replies: head, token counts, times, log-probabilities and finish reasons."""

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.engine.messages import FinishReason
from glmserve.generation.detokenizer import TokenLogprob
from glmserve.generation.generation import Timings, Usage
from glmserve.model_pool.served_model import ModelCard

Finish = Literal["stop", "length", "tool_calls", "function_call"]


class PromptDetails(TypedDict):
    """Of the prompt tokens."""

    cached_tokens: int


class CompletionDetails(TypedDict):
    """Of the completion tokens."""

    reasoning_tokens: int


class UsageObject(TypedDict):
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: NotRequired[CompletionDetails]


class TimingsObject(TypedDict):
    """The engine's times in milliseconds, as llama-server reports them: without the network."""

    queue_ms: float
    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


class TopLogprobObject(TypedDict):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobObject(TopLogprobObject):
    """A token of an answer, with the most probable ones at its place."""

    top_logprobs: list[TopLogprobObject]


class Logprobs(TypedDict):
    """The tokens of an answer, or of a piece of it."""

    content: list[TokenLogprobObject]
    refusal: None


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

    def fingerprint_of(self, *, disturbed: bool) -> str | None:
        """Return the fingerprint, another one where the same seed may give another answer."""
        return f"{self.fingerprint}_shared" if self.fingerprint and disturbed else self.fingerprint


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
    counts: UsageObject = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    if usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts


_IMPOSSIBLE = -9999.0
"""OpenAI's word for a token that has no probability."""


def logprobs_object(tokens: tuple[TokenLogprob, ...]) -> Logprobs | None:
    """Return the log-probabilities of an answer or of a piece of it; null where none are asked for."""
    if not tokens:
        return None
    return {
        "content": [{**_object(token), "top_logprobs": [_object(rival) for rival in token.top]} for token in tokens],
        "refusal": None,
    }


def shown_piece(token: TokenLogprob) -> str:
    """Return a token as text; half a character is shown as the replacement character."""
    return token.piece.decode("utf-8", "replace")


def finite_logprob(token: TokenLogprob) -> float:
    """Return the log-probability as JSON can hold it."""
    value = token.logprob
    return value if value is not None and math.isfinite(value) else _IMPOSSIBLE


def _object(token: TokenLogprob) -> TopLogprobObject:
    return {"token": shown_piece(token), "logprob": finite_logprob(token), "bytes": list(token.piece)}
