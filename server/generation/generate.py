"""Generation for every dialect: from prompt ids and parameters to text."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from anyio import CancelScope

from glmserve.chat.tools.types import ToolCall, ToolConfig, gather_calls
from glmserve.engine.errors import GrammarRejected
from glmserve.engine.interface import Caller
from glmserve.engine.messages import FinishReason, PrefixScope, StepOutput
from glmserve.engine.params import SamplingParams
from glmserve.generation.deadline import Deadline
from glmserve.generation.detokenizer import Detokenizer
from glmserve.generation.logprobs import TokenLogprob
from glmserve.generation.output_processor import RequestOutput, TextDelta, scored_token
from glmserve.generation.prompt_log import log_prompt, logged
from glmserve.generation.tool_schemas import without_refused_schemas
from glmserve.http.errors import ClientDisconnected
from glmserve.http.request_context import RequestContext, RequestObserver
from glmserve.http.request_progress import RequestProgress
from glmserve.model_pool.host import Tokenizer
from glmserve.model_pool.registry import ServedModel

_T = TypeVar("_T")

SEED_SPAN = 2**32 - 1
"""Seeds lie below this: the largest 32-bit number asks llama.cpp for a random one."""


@dataclass(frozen=True, slots=True)
class PrefixSalts:
    """Limits that a request sets on the reuse of its prompt in the prefix cache."""

    salt: str = ""
    """Share only with requests of this salt; pinned prefixes stay public."""
    bucket: str = ""
    """Share only with requests of this bucket; system messages stay public."""


NO_SALTS = PrefixSalts()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One ask: a prompt, how to sample, where to stop, and how many answers."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    stop: tuple[str, ...] = ()
    """Looked for in the text of an answer, not in its calls."""
    n: int = 1
    tools: ToolConfig | None = None
    """Whose calls the answer is read for. The prompt tells of them, and ``params.grammar`` holds the model to them."""
    continued: bool = False
    """The prompt ends within an answer, which the model continues."""
    scores_only: bool = False
    """No answer is wanted. The engine gives one token all the same."""
    salts: PrefixSalts = NO_SALTS
    common_tokens: int = 0
    """Length of the part of the prompt that callers share though each has a prefix cache of its own."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request so far; a prompt that several answers share counts once."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


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


@dataclass(frozen=True, slots=True)
class Completion:
    """All answers to a request."""

    answers: tuple[Answer, ...]
    usage: Usage
    prompt: tuple[TokenLogprob, ...] = ()
    """The tokens of the prompt, where their log-probabilities are asked for."""
    timings: Timings = Timings(0.0, 0.0, 0.0)


class Generation:
    """An admitted request. Iterate once for its deltas; close it on every path, which aborts what still runs."""

    def __init__(
        self,
        prompt_tokens: int,
        choices: tuple[RequestOutput, ...],
        tokenizer: Tokenizer,
        deadline: Deadline,
        resources: ExitStack,
        *,
        scores_prompt: bool = False,
        log_answers: bool = False,
    ) -> None:
        """Take over ``choices``, the first of which may score the prompt, and ``resources`` that they need."""
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self._choices = choices
        self._deadline = deadline
        self._resources = resources
        self._scores_prompt = scores_prompt
        self._pending: dict[asyncio.Task[TextDelta], RequestOutput] = {}
        # Most requests have one answer, which needs no task for each of its deltas.
        deltas = _single(choices[0], deadline) if len(choices) == 1 else self._merge()
        self._deltas = logged(deltas) if log_answers else deltas

    @property
    def prompt(self) -> tuple[TokenLogprob, ...]:
        """The tokens of the prompt, where their log-probabilities are asked for: all, once there is a delta."""
        tokens: list[TokenLogprob] = []
        detokenizer = Detokenizer(strip_leading_space=self._tokenizer.strips_leading_space)
        offset = 0
        for token in self._choices[0].prompt:
            tokens.append(scored_token(token, self._tokenizer, offset, bare=detokenizer.strips_next))
            offset += len(detokenizer.feed(self._tokenizer.piece(token.token_id)))
        return tuple(tokens)

    @property
    def usage(self) -> Usage:
        """Counts up to now."""
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=sum(choice.completion_tokens for choice in self._choices),
            # One of the answers may have computed what the others then found in the cache.
            cached_tokens=min(choice.cached_tokens for choice in self._choices),
        )

    @property
    def timings(self) -> Timings:
        """Times up to now: where there are several answers, the longest of each."""
        return Timings(
            max(choice.queue_seconds for choice in self._choices),
            max(choice.prompt_seconds for choice in self._choices),
            max(choice.run_seconds - choice.prompt_seconds for choice in self._choices),
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
            await _close_all(self._choices)
            self._resources.close()

    async def _merge(self) -> AsyncGenerator[TextDelta, None]:
        # The others need not compute the prompt, and so may be ahead of the one that scores it.
        others = self._choices[1:] if self._scores_prompt else ()
        self._pending = {_next(choice): choice for choice in self._choices if choice not in others}
        while self._pending:
            done = await self._deadline.wait(self._any_pending)
            self._pending |= {_next(choice): choice for choice in others}
            others = ()
            for task in [task for task in self._pending if task in done]:
                delta = task.result()
                choice = self._pending.pop(task)
                if delta.finish_reason is None:
                    self._pending[_next(choice)] = choice
                yield delta

    async def _any_pending(self) -> set[asyncio.Task[TextDelta]]:
        done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        return done


async def generate(model: ServedModel, request: GenerationRequest, context: RequestContext) -> Generation:
    """Hand ``request`` to the model's engine and return the running generation, which the caller closes.

    The model stays loaded until then.

    Raises:
        RequestRejected: the engine does not take it; nothing is left running.
        EngineUnavailable: there is no engine to take it.
    """
    tokenizer = model.tokenizer
    progress = RequestProgress(model.card.name, len(request.prompt_ids), request.scores_only)
    choices: list[RequestOutput] = []
    caller = Caller(context.caller, context.seconds_left(), _scope(request, context))
    with ExitStack() as resources:
        resources.enter_context(model.held())
        try:
            if request.tools is not None:
                request = await _with_usable_tools(model, request, request.tools, caller, context.observer)
            for index in range(request.n):
                params = _params_of(request.params, index)
                outputs = await model.host.engine.submit(request.prompt_ids, params, model.variant, caller)
                choices.append(_choice(model, request, index, outputs, progress))
        except BaseException:
            await _close_all(choices)
            raise
        context.observer.begin(progress)
        if context.log_texts:
            log_prompt(request.prompt_ids, tokenizer)
        deadline = Deadline(context)
        resources.callback(deadline.close)
        return Generation(
            len(request.prompt_ids),
            tuple(choices),
            tokenizer,
            deadline,
            resources.pop_all(),
            scores_prompt=request.params.prompt_logprobs is not None,
            log_answers=context.log_texts,
        )


def _scope(request: GenerationRequest, context: RequestContext) -> PrefixScope:
    """Return the scope of the prompt in the prefix cache; without an owner, buckets have no effect."""
    owner, salts = context.prefix_owner, request.salts
    return PrefixScope(owner, salts.bucket if owner else "", request.common_tokens, salts.salt)


async def complete(model: ServedModel, request: GenerationRequest, context: RequestContext) -> Completion:
    """Return all of the answers; being cancelled aborts them.

    Raises:
        EngineError: the engine did not take the request, or could not finish it.
    """
    generation = await generate(model, request, context)
    try:
        return completion(generation, [delta async for delta in generation])
    finally:
        await generation.aclose()


def completion(generation: Generation, deltas: Iterable[TextDelta]) -> Completion:
    """Return the answers that ``deltas`` add up to, all answers of ``generation``."""
    parts: dict[int, list[TextDelta]] = defaultdict(list)
    for delta in deltas:
        parts[delta.index].append(delta)
    answers = tuple(_joined(parts[index]) for index in sorted(parts))
    return Completion(answers, generation.usage, generation.prompt, generation.timings)


async def unless_gone(work: Awaitable[_T], gone: Callable[[], Awaitable[None]]) -> _T:
    """Return the result of ``work``, or cancel it once ``gone`` returns: the client has left.

    Raises:
        ClientDisconnected: ``gone`` returned first.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnected
        return working.result()
    finally:
        await cancel_all((working, watching))


async def _with_usable_tools(
    model: ServedModel, request: GenerationRequest, tools: ToolConfig, caller: Caller, observer: RequestObserver
) -> GenerationRequest:
    """Return ``request`` with a grammar that the engine takes, as far as its tools decide. Raises GrammarRejected."""
    grammar = request.params.grammar
    if grammar is None:
        return request
    try:
        await model.host.engine.check_grammar(grammar, caller)
    except GrammarRejected as refusal:
        tools = await without_refused_schemas(model, tools, refusal, caller, observer)
        return replace(request, tools=tools, params=replace(request.params, grammar=model.tool_grammar(tools)))
    return request


def _choice(
    model: ServedModel,
    request: GenerationRequest,
    index: int,
    outputs: AsyncGenerator[StepOutput, None],
    progress: RequestProgress,
) -> RequestOutput:
    form = model.prompt_format.tool_form
    parser = form.parser(request.tools, _new_call_id) if form is not None and request.tools is not None else None
    # A parser looks at the blanks in front itself: where there are some, the answer is no call.
    skip_blanks = model.prompt_format.opens_with_blanks and parser is None and not request.continued
    return RequestOutput(
        index,
        outputs,
        model.tokenizer,
        request.stop,
        progress=progress,
        skip_blanks=skip_blanks,
        continued=request.continued,
        parser=parser,
    )


def _new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _params_of(params: SamplingParams, index: int) -> SamplingParams:
    """Return the parameters of answer ``index``: with a seed, each answer has its own; one scores the prompt."""
    if index == 0:
        return params
    seed = None if params.seed is None else (params.seed + index) % SEED_SPAN
    return replace(params, seed=seed, prompt_logprobs=None)


def _joined(deltas: Sequence[TextDelta]) -> Answer:
    reason = deltas[-1].finish_reason
    assert reason is not None, "an answer without an end"
    tokens = tuple(token for delta in deltas for token in delta.tokens)
    calls = gather_calls([call for delta in deltas for call in delta.calls])
    return Answer("".join(delta.text for delta in deltas), reason, tokens, calls)


async def _single(choice: RequestOutput, deadline: Deadline) -> AsyncGenerator[TextDelta, None]:
    reason = None
    while reason is None:
        delta = await deadline.wait(choice.next_delta)
        reason = delta.finish_reason
        yield delta


def _next(choice: RequestOutput) -> asyncio.Task[TextDelta]:
    return asyncio.create_task(choice.next_delta())


async def cancel_all(tasks: Sequence[asyncio.Future[_T] | asyncio.Future[None]]) -> None:
    """Cancel ``tasks`` and wait until they have ended and freed their resources."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close_all(choices: Iterable[RequestOutput]) -> None:
    for choice in choices:
        await choice.aclose()
