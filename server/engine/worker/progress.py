"""Reports of how far the sequences without a token are."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from glmserve.engine.messages import PromptProgress, StepOutput
from glmserve.engine.sequence import Sequence

_AT_ONCE_S = 1.0
"""With a shorter time between reports, the first one comes at once: a client draws them."""


_REPEAT_S = 2.0
"""Time after which a report comes again though nothing has changed."""


@dataclass(slots=True)
class _Watch:
    every: float
    due: float
    sent: float = -math.inf
    """When the last report was made."""
    told: tuple[int, int] | None = None
    """Its place in the queue, and its computed tokens."""

    def takes(self, progress: PromptProgress, now: float) -> bool:
        """Note that ``progress`` is due, and return whether it is worth a report."""
        self.due = now + self.every
        told = (progress.position, progress.processed)
        if told == self.told and now - self.sent < _REPEAT_S:
            return False
        self.told, self.sent = told, now
        return True


class ProgressReports:
    """Makes the reports that are due. Costs nothing while no sequence asks for them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._watched: dict[int, _Watch] = {}

    def watch(self, request_id: int, every: float | None) -> None:
        """Report on a sequence each ``every`` seconds until it has a token; not at all where that is None."""
        if every is not None:
            now = self._clock()
            self._watched[request_id] = _Watch(every, now if every < _AT_ONCE_S else now + every)

    @property
    def is_due(self) -> bool:
        """Whether there may be something to report."""
        return bool(self._watched) and min(watch.due for watch in self._watched.values()) <= self._clock()

    def due(self, waiting: Iterable[Sequence], prefilling: Iterable[Sequence]) -> list[StepOutput]:
        """Return the reports that are due, and remove the sequences that need none any more.

        Args:
            waiting: all waiting sequences, in the order in which they are likely to start.
            prefilling: all running sequences without a token.
        """
        present = {s.request_id: _waiting(s, place) for place, s in enumerate(waiting, 1)}
        now = self._clock()
        present |= {s.request_id: _prefilling(s, now - s.admitted_at) for s in prefilling}
        reports = []
        for request_id, watch in list(self._watched.items()):
            if request_id not in present:
                del self._watched[request_id]
            elif watch.due <= now and watch.takes(present[request_id], now):
                reports.append(StepOutput(request_id, progress=present[request_id]))
        return reports


def _waiting(sequence: Sequence, place: int) -> PromptProgress:
    return PromptProgress(sequence.num_prompt_tokens - sequence.num_prefix_tokens, position=place)


def _prefilling(sequence: Sequence, seconds: float) -> PromptProgress:
    tuned = sequence.num_prefix_tokens
    processed = max(0, sequence.num_computed_tokens - tuned)
    return PromptProgress(sequence.num_prompt_tokens - tuned, sequence.cached_tokens, processed, seconds)
