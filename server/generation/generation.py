"""A running generation: the answers to the prompts of one request, as deltas while they come or whole; its deadline."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from anyio import CancelScope

from glmserve.chat.tools.types import ToolCall, gather_calls
from glmserve.engine.messages import FinishReason
from glmserve.generation.detokenizer import Detokenizer, TokenLogprob
from glmserve.generation.output_processor import AnswerOutput, TextDelta, log_deltas, scored_token
from glmserve.http.errors import RequestTimedOut
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.host import Tokenizer

_T = TypeVar("_T")


class Deadline:
    """That of a request. One timer serves all of its waits; close it in the end."""

    def __init__(self, context: RequestContext) -> None:
        """Start the timer where ``context`` has a time limit."""
        self._limit = context.time_limit
        self._expired = False
        self._waiting: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if self._limit:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(context.seconds_left(), self._expire)

    async def wait(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``work`` within the time limit.

        Raises:
            RequestTimedOut: the time was up before that; what was started is cancelled.
        """
        if self._expired:
            raise RequestTimedOut(self._limit)
        self._waiting = asyncio.current_task()
        try:
            return await work()
        except asyncio.CancelledError:
            if not self._expired or _cancelled_otherwise(self._waiting):
                raise
            raise RequestTimedOut(self._limit) from None
        finally:
            self._waiting = None

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._waiting is not None:
            self._waiting.cancel()


def _cancelled_otherwise(task: "asyncio.Task[object] | None") -> bool:
    """Take back one cancellation of ``task``; return whether there was another. Python 3.10 does not know."""
    take_back = getattr(task, "uncancel", None)
    return take_back is not None and take_back() > 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request so far. A prompt that several answers share counts once."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int | None = None
    """Of the completion tokens; None where the model writes no reasoning apart from its text."""
    disturbed: bool = False
    """The same request with the same seed may be answered otherwise."""

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        reasoning = None if self.reasoning_tokens is None else self.reasoning_tokens + (other.reasoning_tokens or 0)
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            reasoning,
            self.disturbed or other.disturbed,
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """The engine's times for a request, in seconds."""

    queue_seconds: float
    """From its submission to its admission."""
    prompt_seconds: float
    """From then to its first token."""
    predicted_seconds: float
    """From then to its last one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[TokenLogprob, ...] = ()
    """All tokens of the text, where log-probabilities are asked for; an end token too, which has no text."""
    calls: tuple[ToolCall, ...] = ()
    """The last one may be cut off where ``finish_reason`` is LENGTH."""
    reasoning: str = ""
    """Reasoning that the model wrote before the text."""


@dataclass(frozen=True, slots=True)
class Completion:
    """All answers to a request."""

    answers: tuple[Answer, ...]
    """The answers to the first prompt, then the answers to the next one."""
    usage: Usage
    prompts: tuple[tuple[TokenLogprob, ...], ...] = ((),)
    """The tokens of each prompt, where their log-probabilities are asked for."""
    timings: Timings = Timings(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PromptOutputs:
    """The answers to one prompt, while they come."""

    outputs: tuple[AnswerOutput, ...]
    scores_prompt: bool = False
    """The first one also gives the log-probabilities of the prompt."""

    @property
    def usage(self) -> Usage:
        """Counts up to now."""
        return Usage(
            self.outputs[0].prompt_tokens,
            sum(output.completion_tokens for output in self.outputs),
            # One of the answers may have computed what the others then found in the cache.
            min(output.cached_tokens for output in self.outputs),
            sum(output.reasoning_tokens for output in self.outputs) if self.outputs[0].thinks else None,
            any(output.disturbed for output in self.outputs),
        )


class Generation:
    """An admitted request. Iterate once for its deltas; close it on every path, which aborts unfinished answers.

    The deltas of answer ``i`` to prompt ``p`` have the index ``p * n + i``.
    """

    def __init__(
        self,
        prompts: Sequence[PromptOutputs],
        tokenizer: Tokenizer,
        deadline: Deadline,
        resources: ExitStack,
        *,
        log_answers: bool = False,
    ) -> None:
        """Take over ``prompts``, and ``resources`` that they need."""
        self._tokenizer = tokenizer
        self._prompts = tuple(prompts)
        self._outputs = tuple(output for prompt in prompts for output in prompt.outputs)
        self._deadline = deadline
        self._resources = resources
        self._pending: dict[asyncio.Task[TextDelta], AnswerOutput] = {}
        # Most requests have one answer, which needs no task for each of its deltas.
        deltas = _single(self._outputs[0], deadline) if len(self._outputs) == 1 else self._merge()
        self._deltas = log_deltas(deltas) if log_answers else deltas

    def prompt_logprobs(self, prompt: int = 0) -> tuple[TokenLogprob, ...]:
        """Return the tokens of a prompt, where their log-probabilities are asked for: all, once there is a delta."""
        tokens: list[TokenLogprob] = []
        if not self._prompts[prompt].outputs[0].prompt:
            return ()
        detokenizer = Detokenizer(strip_leading_space=self._tokenizer.strips_leading_space)
        offset = 0
        for token in self._prompts[prompt].outputs[0].prompt:
            tokens.append(scored_token(token, self._tokenizer, offset, bare=detokenizer.strips_next))
            offset += len(detokenizer.feed(self._tokenizer.piece(token.token_id)))
        return tuple(tokens)

    @property
    def usage(self) -> Usage:
        """Counts up to now, of all prompts."""
        first, *others = [prompt.usage for prompt in self._prompts]
        return sum(others, first)

    @property
    def timings(self) -> Timings:
        """Times up to now: where there are several answers, the longest of each."""
        return Timings(
            max(output.queue_seconds for output in self._outputs),
            max(output.prompt_seconds for output in self._outputs),
            max(output.run_seconds - output.prompt_seconds for output in self._outputs),
        )

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        """Return the deltas of all answers as they come."""
        return self._deltas

    async def aclose(self) -> None:
        """Abort the running sequences. May be called again, but not while another task iterates."""
        # All clean-up is here and none in the iterator, which may never have been started; and it is shielded,
        # because a cancelled scope cancels every await in it anew.
        with CancelScope(shield=True):
            await self._deltas.aclose()
            await cancel_all(tuple(self._pending))
            await close_all(self._outputs)
            self._resources.close()

    def completion(self, deltas: Iterable[TextDelta]) -> Completion:
        """Return the answers that ``deltas`` add up to, which are all of them."""
        parts: dict[int, list[TextDelta]] = defaultdict(list)
        for delta in deltas:
            parts[delta.index].append(delta)
        answers = tuple(_joined(parts[index]) for index in sorted(parts))
        prompts = tuple(map(self.prompt_logprobs, range(len(self._prompts))))
        return Completion(answers, self.usage, prompts, self.timings)

    async def _merge(self) -> AsyncGenerator[TextDelta, None]:
        # The other answers need not compute the prompt, and so may be ahead of the one that scores it.
        later = {prompt.outputs[0]: prompt.outputs[1:] for prompt in self._prompts if prompt.scores_prompt}
        waiting = {output for outputs in later.values() for output in outputs}
        self._pending = {_next(output): output for output in self._outputs if output not in waiting}
        while self._pending:
            done = await self._deadline.wait(self._any_pending)
            for task in [task for task in self._pending if task in done]:
                delta = task.result()
                output = self._pending.pop(task)
                self._pending |= {_next(each): each for each in later.pop(output, ())}
                if delta.finish_reason is None:
                    self._pending[_next(output)] = output
                yield delta

    async def _any_pending(self) -> set[asyncio.Task[TextDelta]]:
        done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        return done


def _joined(deltas: Sequence[TextDelta]) -> Answer:
    reason = deltas[-1].finish_reason
    assert reason is not None, "an answer without an end"
    tokens = tuple(token for delta in deltas for token in delta.tokens)
    calls = gather_calls([call for delta in deltas for call in delta.calls])
    reasoning = "".join(delta.reasoning for delta in deltas)
    return Answer("".join(delta.text for delta in deltas), reason, tokens, calls, reasoning)


async def _single(output: AnswerOutput, deadline: Deadline) -> AsyncGenerator[TextDelta, None]:
    reason = None
    while reason is None:
        delta = await deadline.wait(output.next_delta)
        reason = delta.finish_reason
        yield delta


def _next(output: AnswerOutput) -> asyncio.Task[TextDelta]:
    return asyncio.create_task(output.next_delta())


async def cancel_all(tasks: Sequence[asyncio.Future[_T] | asyncio.Future[None]]) -> None:
    """Cancel ``tasks`` and wait until they have ended and freed their resources."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def close_all(outputs: Iterable[AnswerOutput]) -> None:
    """Abort the unfinished ``outputs``."""
    for output in outputs:
        await output.aclose()
