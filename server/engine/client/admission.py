"""Which requests an engine takes: that they fit it, how many at once, and whose they are. Pure: times are given.

This many requests of any caller may wait. Past that only a caller who has less than its share is admitted: one caller
cannot fill the queue for all others, and no admitted request is dropped.
"""

import math
from collections import Counter, deque

from glmserve.engine.errors import PromptTooLong, QueueFull, QueueTooSlow, UnknownToken
from glmserve.engine.interface import Caller
from glmserve.engine.messages import EngineInfo
from glmserve.engine.params import SamplingParams


def check_fit(info: EngineInfo, prompt_ids: tuple[int, ...], params: SamplingParams, adapter: str) -> None:
    """Raise PromptTooLong or UnknownToken where an engine with ``info`` cannot compute a request."""
    room = info.context_length - info.prefix_tokens.get(adapter, 0)
    if not 0 < len(prompt_ids) < room:
        raise PromptTooLong(len(prompt_ids), room)
    for token_id, _ in params.logit_bias:
        if token_id >= info.vocab_size:
            raise UnknownToken(token_id, info.vocab_size)


LONGEST_RETRY_S = 60
"""Maximum of Retry-After in seconds: OpenAI's clients ignore larger values."""

_SAMPLES = 32
_LEAST_SAMPLES = 4
_LEAST_TO_TELL = 2
"""The same where the wait is only reported, and no request is rejected for it."""


class Turnover:
    """How fast requests end while others wait: only then do places come free as fast as they can."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._ends: deque[float] = deque(maxlen=_SAMPLES)
        """Clock that stops while the queue is empty."""
        self._paused = 0.0
        self._paused_since: float | None = 0.0

    def look(self, now: float, *, crowded: bool) -> None:
        """Note whether the queue is non-empty from now on."""
        if crowded and self._paused_since is not None:
            self._paused += now - self._paused_since
            self._paused_since = None
        elif not crowded and self._paused_since is None:
            self._paused_since = now

    def ended(self, now: float) -> None:
        """Note that a request ended; it counts where another one waited for its place."""
        if self._paused_since is None:
            self._ends.append(now - self._paused)

    def seconds_each(self, now: float, least: int = _LEAST_SAMPLES) -> float:
        """Return how long it takes until another one ends; 0 where fewer than ``least`` have ended."""
        if len(self._ends) < least:
            return 0.0
        stood = 0.0 if self._paused_since is None else now - self._paused_since
        return (now - self._paused - stood - self._ends[0]) / len(self._ends)


class AdmissionController:
    """The admitted requests that have not ended."""

    def __init__(self, running: int, waiting: int) -> None:
        """Allow ``running`` requests and ``waiting`` ones; a few more for callers below their share of the queue."""
        self._running = running
        self._waiting = waiting
        self._inside: dict[int, str] = {}
        self._of_caller: Counter[str] = Counter()
        self._turnover = Turnover()

    def __len__(self) -> int:
        return len(self._inside)

    def resize(self, running: int, waiting: int) -> None:
        """Change the bounds; requests that were admitted stay."""
        self._running, self._waiting = running, waiting

    def enter(self, request_id: int, caller: Caller, now: float) -> None:
        """Let a request in, until it leaves. Raises QueueFull, as ``check`` does."""
        self.check(caller, now)
        self.admit(request_id, caller, now)

    def admit(self, request_id: int, caller: Caller, now: float) -> None:
        """Let a request in, however many wait."""
        self._inside[request_id] = caller.id
        self._of_caller[caller.id] += 1
        self._look(now)

    def check(self, caller: Caller, now: float) -> None:
        """Raise the error of a request that would not be admitted.

        Raises:
            QueueFull: as many wait as may.
            QueueTooSlow: it would wait for longer than it may take.
        """
        waiting = len(self._inside) - self._running
        each = self._turnover.seconds_each(now)
        if waiting >= self._waiting and (
            waiting >= 2 * self._waiting or self._of_caller[caller.id] >= self._share(caller.id)
        ):
            raise QueueFull(waiting, _retry_after(each * waiting / 2))  # half of them are gone by then
        wait = each * self._ahead(caller.id)
        if wait > caller.timeout_s:
            raise QueueTooSlow(wait, caller.timeout_s, _retry_after(wait - caller.timeout_s))

    def expected_wait(self, ahead: int, now: float) -> float:
        """Return how many seconds it takes until ``ahead`` requests have ended; 0 where that is not known."""
        return self._turnover.seconds_each(now, _LEAST_TO_TELL) * ahead

    def leave(self, request_id: int, now: float, *, served: bool = True) -> None:
        """A request ended, or was not taken after all; one that has left already may do so again."""
        caller = self._inside.pop(request_id, None)
        if caller is None:
            return
        self._of_caller[caller] -= 1
        if not self._of_caller[caller]:
            del self._of_caller[caller]
        if served:
            self._turnover.ended(now)
        self._look(now)

    def _look(self, now: float) -> None:
        self._turnover.look(now, crowded=len(self._inside) > self._running)

    def _share(self, caller: str) -> int:
        """Return how many requests a caller may have in any case."""
        others = len(self._of_caller) - (caller in self._of_caller)
        return -(-self._waiting // (2 * (others + 1)))

    def _ahead(self, caller: str) -> int:
        """Return how many requests have to end before one more begins, where callers take turns."""
        waiting = len(self._inside) - self._running + 1
        callers = len(self._of_caller) + (caller not in self._of_caller)
        return max(0, min(waiting, callers * (self._of_caller[caller] + 1)))


def _retry_after(seconds: float) -> int:
    return min(LONGEST_RETRY_S, max(1, math.ceil(seconds)))
