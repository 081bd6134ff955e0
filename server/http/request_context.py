"""The facts of a request that its generations need, as an argument, and the progress that they note.

Nothing below the routers looks a request up.
"""

import math
import time
from dataclasses import dataclass, field
from typing import Protocol


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


class RequestObserver(Protocol):
    """Receives the generations of a request."""

    def begin(self, progress: RequestProgress) -> None:
        """An engine has taken a prompt, whose answers are counted in ``progress``."""

    def relax(self, part: str) -> None:
        """The grammar does not enforce ``part`` of a schema."""


class NoObserver:
    """Records nothing."""

    def begin(self, progress: RequestProgress) -> None:
        """Do nothing."""

    def relax(self, part: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request as its generations know it. Routers make it with ``RequestRecord.context``."""

    request_id: str = ""
    caller: str = ""
    """Key of fair scheduling: the API key, or the address if no keys are set."""
    time_limit: float = 0.0
    """Seconds that the request may take; 0 is any number."""
    expires: float = math.inf
    """When they are over, on the monotonic clock."""
    prefix_owner: str = ""
    """Key that alone may reuse the prompt's cells in the prefix cache; empty if keys share them."""
    body_bytes: int = 0
    """Size of the request: work on a large one is done beside the event loop."""
    log_texts: bool = False
    """Prompts and answers may be logged."""
    background: bool = False
    """No client waits for it: it is computed while no other request is."""
    observer: RequestObserver = field(default_factory=NoObserver)

    def seconds_left(self) -> float:
        """Return the remaining time of the limit in seconds; infinity without a limit."""
        return max(0.0, self.expires - time.monotonic())
