"""When each sequence came and was admitted, so that its outputs can say how long that took."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from glmserve.engine.messages import StepOutput


@dataclass(slots=True)
class _Times:
    submitted: float
    admitted: float = 0.0


class SequenceTimes:
    """The times of the sequences that are waiting or running."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._times: dict[int, _Times] = {}

    @property
    def request_ids(self) -> frozenset[int]:
        """Of the sequences that are waiting or running."""
        return frozenset(self._times)

    def submitted(self, request_id: int) -> None:
        """A sequence has come."""
        self._times[request_id] = _Times(self._clock())

    def admitted(self, request_ids: Iterable[int]) -> None:
        """These sequences run from now on."""
        now = self._clock()
        for request_id in request_ids:
            if request_id in self._times:
                self._times[request_id].admitted = now

    def since_admission(self, request_id: int) -> float:
        """Return how long a sequence runs, in seconds."""
        times = self._times.get(request_id)
        return self._clock() - times.admitted if times is not None and times.admitted else 0.0

    def forget(self, request_id: int) -> None:
        """A sequence has ended."""
        self._times.pop(request_id, None)

    def stamp(self, outputs: Iterable[StepOutput]) -> tuple[StepOutput, ...]:
        """Return ``outputs`` with their times, and forget the sequences that they end."""
        now = self._clock()
        return tuple(self._stamped(output, now) for output in outputs)

    def _stamped(self, output: StepOutput, now: float) -> StepOutput:
        times = self._times.get(output.request_id)
        if output.finish_reason is not None:
            self.forget(output.request_id)
        if times is None or not times.admitted:
            return output
        # Not ``replace``, which takes four times as long and is in every step.
        return StepOutput(
            output.request_id,
            output.token_ids,
            output.finish_reason,
            output.cached_tokens,
            output.error,
            output.logprobs,
            output.prompt_logprobs,
            queue_seconds=times.admitted - times.submitted,
            run_seconds=now - times.admitted,
        )
