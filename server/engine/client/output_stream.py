"""The outputs of requests, joined over the processes that computed them, on their way to readers who may be slower."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import copy_context
from dataclasses import replace

from glmserve.engine.errors import DecodeFailed, EngineError, GrammarFailed, SlowConsumer
from glmserve.engine.messages import GRAMMAR_FAILED, Embed, Embedded, FinishReason, SampledToken, StepOutput, Submit
from glmserve.engine.params import params_after


class AnswerSoFar:
    """The outputs of one sequence over all processes that computed it, joined into one answer."""

    def __init__(self) -> None:
        """Nothing has been given so far."""
        self.token_ids: list[int] = []
        self._scores = 0
        """Tokens of the prompt whose log-probabilities were given."""
        self._scores_to_skip = 0
        self._last: StepOutput | None = None
        self._before: StepOutput | None = None
        """The last output of the processes before this one."""
        self._pause_seconds = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether anything has been given."""
        return self._last is not None

    def add(self, output: StepOutput) -> StepOutput:
        """Return ``output`` as the reader is to get it. As cheap as can be: there is one for each token."""
        if self._before is not None:
            output = self._joined(output, self._before)
        self.token_ids += output.token_ids
        self._scores += len(output.prompt_logprobs)
        self._last = output
        return output

    def resume(self, request: Submit, pause_seconds: float) -> Submit:
        """Return the request for a new process, so that its outputs continue the answer of ``request``.

        Args:
            request: what the first process was asked.
            pause_seconds: how long no process computed it.
        """
        if self._last is None:
            return request
        self._before, self._pause_seconds = self._last, pause_seconds
        self._scores_to_skip = 0 if self.token_ids else self._scores
        prompt = (*request.prompt_ids, *self.token_ids)
        params = params_after(request.params, len(self.token_ids))
        return replace(request, prompt_ids=prompt, params=params, answered=request.answered + len(self.token_ids))

    def _joined(self, output: StepOutput, before: StepOutput) -> StepOutput:
        return output._replace(
            cached_tokens=before.cached_tokens,
            prompt_logprobs=self._new_scores(output.prompt_logprobs),
            queue_seconds=before.queue_seconds,
            run_seconds=before.run_seconds + self._pause_seconds + output.queue_seconds + output.run_seconds,
        )

    def _new_scores(self, scores: tuple[SampledToken, ...]) -> tuple[SampledToken, ...]:
        """Return the prompt's ``scores`` without the ones that an earlier process gave."""
        skipped = min(self._scores_to_skip, len(scores))
        self._scores_to_skip -= skipped
        return scores[skipped:]


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
        self.on_end: Callable[[bool], object] = bool
        """Tells the engine that has the request that its reader needs no more; with whether it has finished."""
        self._queue: asyncio.Queue[Outcome] = asyncio.Queue()

    def put(self, outcome: Outcome) -> bool:
        """Add ``outcome``; return False if it made the queue overflow, which ends the request."""
        if isinstance(outcome, StepOutput):
            if outcome.progress is not None:
                return self._put_progress(outcome)
            self.got_further = True
            outcome = self.so_far.add(outcome)
        if self._queue.qsize() >= MOST_UNREAD and not isinstance(outcome, EngineError):
            self._queue.put_nowait(SlowConsumer(MOST_UNREAD))
            return False
        self._queue.put_nowait(outcome)
        return True

    def _put_progress(self, report: StepOutput) -> bool:
        """Add a report unless there is an unread one; nothing was computed by it. After a restart there are none."""
        if self._queue.empty() and not self.so_far.has_begun:
            self._queue.put_nowait(report)
        return True

    async def get(self) -> Outcome:
        """Wait for the next one."""
        return await self._queue.get()

    def ready(self) -> Iterator[Outcome]:
        """Yield the ones that are there already."""
        while not self._queue.empty():
            yield self._queue.get_nowait()


class OutputStream(AsyncGenerator[StepOutput, None]):
    """The outputs of one sequence. Not a generator function: an unstarted generator cannot be closed."""

    def __init__(self, outcomes: RequestOutputQueue) -> None:
        """``on_end`` of ``outcomes`` is called once, with whether the sequence has finished."""
        self._outcomes = outcomes
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
            self._outcomes.on_end(finished)


def _checked(outcome: Outcome) -> StepOutput:
    if isinstance(outcome, EngineError):
        raise outcome
    assert isinstance(outcome, StepOutput), outcome
    if outcome.finish_reason is FinishReason.ERROR and outcome.error.startswith(GRAMMAR_FAILED):
        raise GrammarFailed(f"this answer could not follow {outcome.error}")
    if outcome.finish_reason is FinishReason.ERROR:
        raise DecodeFailed(f"this request failed in the engine: {outcome.error}")
    return outcome


async def vectors_of(outcomes: RequestOutputQueue) -> tuple[bytes, ...]:
    """Wait for the vectors of a request. Raises EngineError."""
    finished = False
    try:
        outcome = await outcomes.get()
        finished = True
    finally:
        outcomes.on_end(finished)
    if isinstance(outcome, EngineError):
        raise outcome
    assert isinstance(outcome, Embedded), outcome
    if outcome.error:
        raise DecodeFailed(f"this request failed in the engine: {outcome.error}")
    return outcome.vectors
