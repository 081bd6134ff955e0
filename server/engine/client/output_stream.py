"""The outputs of requests, between the engine that makes them and readers who may be slower."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextvars import copy_context

from glmserve.engine.client.answer_so_far import AnswerSoFar
from glmserve.engine.errors import DecodeFailed, EngineError, GrammarFailed, SlowConsumer
from glmserve.engine.messages import GRAMMAR_FAILED, Embed, Embedded, FinishReason, StepOutput, Submit

MOST_UNREAD = 4096
"""Outputs of a request that may wait for their reader. They take 1.1 MB; with 20 log-probabilities each, 11.6 MB."""

Outcome = StepOutput | Embedded | EngineError


class RequestOutputQueue:
    """Unread outputs of one request, in order."""

    def __init__(self, request: Submit | Embed) -> None:
        """Nothing has, so far."""
        self.request = request
        self.sent = 0
        """How many processes were asked."""
        self.got_further = False
        """Whether anything has come of it since it was sent the last time."""
        self.so_far = AnswerSoFar()
        self.lost_at: float | None = None
        """When its process died, while no other one has it."""
        self.context = copy_context()
        """Context of the request, for its log lines."""
        self._queue: asyncio.Queue[Outcome] = asyncio.Queue()

    def put(self, outcome: Outcome) -> bool:
        """Add ``outcome``; return False if it made the queue overflow, which ends the request."""
        if isinstance(outcome, StepOutput):
            self.got_further = True
            outcome = self.so_far.add(outcome)
        if self._queue.qsize() >= MOST_UNREAD and not isinstance(outcome, EngineError):
            self._queue.put_nowait(SlowConsumer(MOST_UNREAD))
            return False
        self._queue.put_nowait(outcome)
        return True

    async def get(self) -> Outcome:
        """Wait for the next one."""
        return await self._queue.get()


class OutputStream(AsyncGenerator[StepOutput, None]):
    """The outputs of one sequence. Not a generator function: an unstarted generator cannot be closed."""

    def __init__(self, outcomes: RequestOutputQueue, on_end: Callable[[bool], None]) -> None:
        """``on_end`` is called once, with whether the sequence has finished."""
        self._outcomes = outcomes
        self._on_end = on_end
        self._ended = False

    async def asend(self, _value: None) -> StepOutput:
        """Return the next output. Raises EngineError."""
        if self._ended:
            raise StopAsyncIteration
        outcome = await self._outcomes.get()
        if not isinstance(outcome, StepOutput) or outcome.finish_reason is not None:
            self._end(finished=True)
        return _checked(outcome)

    async def athrow(self, error: object, *_: object) -> StepOutput:
        """End the stream with ``error``."""
        self._end(finished=False)
        raise error if isinstance(error, BaseException) else GeneratorExit

    async def aclose(self) -> None:
        """End the stream; a running sequence is aborted."""
        self._end(finished=False)

    def _end(self, *, finished: bool) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(finished)


def _checked(outcome: Outcome) -> StepOutput:
    if isinstance(outcome, EngineError):
        raise outcome
    assert isinstance(outcome, StepOutput), outcome
    if outcome.finish_reason is FinishReason.ERROR and outcome.error.startswith(GRAMMAR_FAILED):
        raise GrammarFailed(f"this answer could not follow {outcome.error}")
    if outcome.finish_reason is FinishReason.ERROR:
        raise DecodeFailed(f"this request failed in the engine: {outcome.error}")
    return outcome
