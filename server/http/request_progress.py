"""The answers to one prompt while they come: the generation writes it, metrics and limits read it."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class RequestProgress:
    """The answers to one prompt, counted while they come."""

    model: str
    prompt_tokens: int
    scores_only: bool = False
    """No answer is wanted: the token that the engine gives all the same counts nowhere."""
    completion_tokens: int = 0
    queue_seconds: float | None = None
    """How long the first of them waited in the engine; None until a token has come."""
    prefill_seconds: float = 0.0
    """From its admission to its first token."""
    cached_tokens: int = 0
    """Tokens of the prompt that it found computed."""
    first_token: float = 0.0
    """When that was, on the monotonic clock."""
    last_token: float = 0.0
    """When the latest one was."""
    gaps: list[float] = field(default_factory=list)
    """Seconds between the tokens of an answer, or between the batches of them that came together."""
    cut: bool = False
    """An answer ended because it had become as long as it may."""

    def begin(self, queue_seconds: float, prefill_seconds: float, cached_tokens: int) -> None:
        """Note that an answer has its first token; only the first of all answers counts."""
        if self.queue_seconds is None:
            self.queue_seconds, self.prefill_seconds = queue_seconds, prefill_seconds
            self.cached_tokens, self.first_token = cached_tokens, time.monotonic()

    def token(self, count: int, last: float) -> float:
        """Note ``count`` tokens of an answer whose last ones came at ``last`` (0: none yet); return the time."""
        now = self.last_token = time.monotonic()
        self.completion_tokens += 0 if self.scores_only else count
        if last:
            self.gaps.append(now - last)
        return now
