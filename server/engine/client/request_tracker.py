"""The requests that an engine has not ended yet, and which of them a fresh process may have when one dies."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from glmserve.engine.client.admission import AdmissionController
from glmserve.engine.client.output_stream import RequestOutputQueue
from glmserve.engine.errors import EngineError
from glmserve.engine.interface import Caller
from glmserve.engine.messages import Embed, Embedded, PromptProgress, StepOutput, Submit, ToWorker

_MOST_SENT = 3
"""Processes that a request may be sent to, one after the other."""
_MOST_IDLE = 2
"""The same, if the last process gave no output: the request may have killed both."""


class Siblings(Protocol):
    """The other engines of a model."""

    def emptied(self) -> None:
        """Note that the process of this engine has ended, and its cache with it."""

    def take_over(self, outcomes: RequestOutputQueue) -> bool:
        """Continue a request that this engine has lost; return False where none can."""

    def finished(self, request: Submit, token_ids: Sequence[int]) -> None:
        """Note the answer that this engine has computed to ``request``, or a part of it."""


class RequestTracker:
    """By id, in the order of their arrival."""

    def __init__(
        self,
        parallel: int,
        max_waiting: int,
        on_end: Callable[[int, bool], object],
        clock: Callable[[], float] = time.monotonic,
        *,
        resume: bool = True,
    ) -> None:
        """Nothing is admitted yet.

        Args:
            parallel: how many requests may run.
            max_waiting: how many may wait.
            on_end: gets the id of a request whose reader needs no more, and whether it has finished.
            clock: any that only goes forwards, in seconds.
            resume: a fresh process may continue an answer that has begun.
        """
        self._on_end = on_end
        self._resume = resume
        self.resumed_total = 0
        self._ids = itertools.count(1)
        self._admission = AdmissionController(parallel, max_waiting)
        self._background = AdmissionController(parallel, max(parallel, max_waiting))
        """Of the requests in the background, which take no place in the queue of the others."""
        self._clock = clock
        self._open: dict[int, RequestOutputQueue] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._open)

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the requests."""
        return tuple(self._open)

    def check_room(self, caller: Caller) -> None:
        """Raise QueueFull where a request of ``caller`` would be rejected."""
        self._admission_of(caller).check(caller, self._clock())

    @contextmanager
    def admitted(self, caller: Caller) -> Iterator[int]:
        """Yield the id of an admitted request, and remove it where the block fails. Raises QueueFull."""
        request_id = next(self._ids)
        self._admission_of(caller).enter(request_id, caller, self._clock())
        try:
            yield request_id
        except BaseException:
            self._leave(request_id, served=False)
            raise

    def _admission_of(self, caller: Caller) -> AdmissionController:
        return self._background if caller.background else self._admission

    def _leave(self, request_id: int, *, served: bool) -> None:
        for admission in (self._admission, self._background):
            admission.leave(request_id, self._clock(), served=served)

    def enter(self, request: Submit | Embed, send: Callable[[ToWorker], None]) -> RequestOutputQueue:
        """Send a request; return where its outcomes go."""
        outcomes = RequestOutputQueue(request)
        self._watch(outcomes)
        self._send(outcomes, send)
        return outcomes

    def get(self, request_id: int) -> RequestOutputQueue | None:
        """Return the outcomes of a request that has not ended."""
        return self._open.get(request_id)

    def put(self, output: StepOutput | Embedded) -> bool:
        """Add an output; return False where too many are unread."""
        outcomes = self._open.get(output.request_id)
        if isinstance(output, StepOutput) and output.progress is not None:
            output = output._replace(progress=self._expected(output.progress))
        return outcomes is None or outcomes.put(output)

    def _expected(self, progress: PromptProgress) -> PromptProgress:
        """Return ``progress`` with how long the sequence will wait, where that is known."""
        if not progress.position:
            return progress
        wait = self._admission.expected_wait(progress.position, self._clock())
        return replace(progress, expected_wait=wait or None)

    def drop(self, request_id: int) -> RequestOutputQueue | None:
        """Remove a request that has ended; return its outcomes unless it was removed before."""
        self._leave(request_id, served=True)
        return self._open.pop(request_id, None)

    def hand_over(self, request_ids: Iterable[int], take: Callable[[RequestOutputQueue], bool]) -> tuple[int, ...]:
        """Offer requests to other engines; return the ones that stay, as ``take`` returned False."""
        stay = []
        for request_id in request_ids:
            if take(self._open[request_id]):
                del self._open[request_id]
                self._leave(request_id, served=False)
            else:
                stay.append(request_id)
        return tuple(stay)

    def adopt(self, outcomes: RequestOutputQueue, send: Callable[[ToWorker], None]) -> None:
        """Continue a request of another engine, however many wait: it was admitted there."""
        request = outcomes.request
        request_id = next(self._ids)
        caller = Caller(request.caller, background=request.background)
        self._admission_of(caller).admit(request_id, caller, self._clock())
        outcomes.request = replace(request, request_id=request_id)
        self._watch(outcomes)
        self._send(outcomes, send)

    def _watch(self, outcomes: RequestOutputQueue) -> None:
        request_id = outcomes.request.request_id
        outcomes.on_end = lambda finished: self._on_end(request_id, finished)
        self._open[request_id] = outcomes

    def end(self, error: EngineError, request_ids: Iterable[int] | None = None) -> None:
        """End these requests with ``error``, or all."""
        for request_id in tuple(self._open if request_ids is None else request_ids):
            if (outcomes := self._open.pop(request_id, None)) is not None:
                outcomes.put(error)
                self._leave(request_id, served=False)

    def end_lost(self, error: EngineError) -> tuple[int, ...]:
        """End the requests that died with their process; return the ones that a fresh one may run.

        The caller of a kept request cannot tell: nothing was answered yet, or the answer goes on where it was.
        """
        now = self._clock()
        kept = tuple(i for i, outcomes in self._open.items() if self._may_go_on(outcomes))
        self.end(error, self._open.keys() - kept)
        for outcomes in self._open.values():
            outcomes.lost_at = now if outcomes.lost_at is None else outcomes.lost_at
        return kept

    def _may_go_on(self, outcomes: RequestOutputQueue) -> bool:
        if outcomes.so_far.has_begun and not self._resume:
            return False
        return outcomes.sent < (_MOST_SENT if outcomes.got_further else _MOST_IDLE)

    def end_unanswered(self, error: EngineError, request_ids: Iterable[int]) -> None:
        """End the named requests that have no output yet. An answer that has begun waits for longer."""
        self.end(error, [i for i in request_ids if i in self._open and not self._open[i].so_far.has_begun])

    def send_all(self, send: Callable[[ToWorker], None]) -> None:
        """Send all open requests to a fresh process."""
        for outcomes in self._open.values():
            self._send(outcomes, send)

    def send_again(
        self, request_id: int, error: EngineError, send: Callable[[ToWorker], None], *, rejected: bool = False
    ) -> None:
        """Send one request to another engine, as its own has lost it, or end it with ``error`` where it may not go on.

        ``rejected``: its engine did not take it at all, so that this was no try.
        """
        if (outcomes := self._open.get(request_id)) is None:
            return
        outcomes.sent -= rejected
        if not self._may_go_on(outcomes):
            self.end(error, (request_id,))
            return
        outcomes.lost_at = self._clock() if outcomes.lost_at is None else outcomes.lost_at
        self._send(outcomes, send)

    def resize(self, parallel: int, max_waiting: int) -> None:
        """Change how many requests may run and wait; requests that were admitted stay."""
        self._admission.resize(parallel, max_waiting)
        self._background.resize(parallel, max(parallel, max_waiting))

    def spend(self) -> None:
        """Exclude the present requests from being sent again."""
        for outcomes in self._open.values():
            outcomes.sent = _MOST_SENT

    def _send(self, outcomes: RequestOutputQueue, send: Callable[[ToWorker], None]) -> None:
        pause = 0.0 if outcomes.lost_at is None else self._clock() - outcomes.lost_at
        outcomes.sent, outcomes.got_further, outcomes.lost_at = outcomes.sent + 1, False, None
        request = outcomes.request
        if isinstance(request, Submit):
            self.resumed_total += outcomes.so_far.has_begun
            request = outcomes.so_far.resume(request, pause)
        send(request)
