"""From the times of requests to the figures of the field. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from glmserve.cli.bench.sse_reader import RequestTimes


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One workload's figures; times in seconds, rates in tokens a second."""

    workload: str
    requests: int
    wall: float
    """From the first request to the last answer's end."""
    throughput: float
    """Tokens of all answers over ``wall``."""
    ttft_median: float
    """Time to first token; where some clients came late, theirs."""
    ttft_max: float
    tpot_median: float
    """Time per output token after the first, of a request."""
    tpot_mean: float
    """The mean of requests: the inverse of a rate where they came one by one and have the same length."""
    longest_pause: float
    """Between two pieces of text of one answer; where some clients came late, of the others' answers."""
    prompt_tokens: int
    cached_share: float
    """Of the prompts' tokens, how many the server had computed before."""


def summarise(workload: str, requests: Sequence[RequestTimes]) -> BenchReport:
    """Return the figures of ``requests``, which ran together."""
    wall = max(r.ended for r in requests) - min(r.started for r in requests)
    prompt_tokens = sum(r.prompt_tokens for r in requests)
    late = [r for r in requests if r.late]
    early = [r for r in requests if not r.late]
    ttft = [r.chunks[0] - r.started for r in late or early if r.chunks]
    tpot = [_per_token(r) for r in requests if r.completion_tokens > 1 and r.chunks]
    return BenchReport(
        workload=workload,
        requests=len(requests),
        wall=wall,
        throughput=sum(r.completion_tokens for r in requests) / wall,
        ttft_median=_median(ttft),
        ttft_max=max(ttft, default=0.0),
        tpot_median=_median(tpot),
        tpot_mean=statistics.fmean(tpot or [0.0]),
        longest_pause=max((_longest_pause(r) for r in early), default=0.0),
        prompt_tokens=prompt_tokens,
        cached_share=sum(r.cached_tokens for r in requests) / max(1, prompt_tokens),
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values or [0.0])


def _per_token(request: RequestTimes) -> float:
    return (request.chunks[-1] - request.chunks[0]) / (request.completion_tokens - 1)


def _longest_pause(request: RequestTimes) -> float:
    pairs = zip(request.chunks, request.chunks[1:], strict=False)
    return max((later - earlier for earlier, later in pairs), default=0.0)
