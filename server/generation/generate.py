"""Generation for every dialect: from prompt ids and parameters to text."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import Tool, ToolChoice, ToolConfig
from glmserve.engine.errors import GrammarRejected
from glmserve.engine.interface import Caller
from glmserve.engine.messages import PrefixScope, StepOutput
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from glmserve.generation.detokenizer import ReasoningParser, opens_reasoning
from glmserve.generation.generation import Completion, Deadline, Generation, PromptOutputs, cancel_all, close_all
from glmserve.generation.output_processor import AnswerOutput, RequestOutput, log_prompt
from glmserve.generation.remote import RemoteOutput, RemoteTally, log_remote
from glmserve.http.errors import ClientDisconnected
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext, RequestObserver, RequestProgress
from glmserve.model_pool.served_model import ServedModel
from glmserve.upstream.chat import CHAT_PATH, ChatReader, RemotePrompt, chat_body
from glmserve.upstream.passing import salt

if TYPE_CHECKING:
    from glmserve.upstream.engine import Upstream

_ANY_ARGUMENTS = MappingProxyType({"type": "object"})


async def without_rejected_schemas(
    model: ServedModel, config: ToolConfig, rejection: GrammarRejected, caller: Caller, observer: RequestObserver
) -> ToolConfig:
    """Return ``config`` with free arguments for the tools that the engine rejects one by one.

    ``observer`` gets each.

    Raises:
        GrammarRejected: such a tool is strict, or the tools are not to blame.
    """
    reasons = {tool.name: reason for tool in config.callable if (reason := await _rejection(model, tool, caller))}
    if not reasons:
        raise rejection
    for tool in config.callable:
        if tool.name in reasons and tool.strict:
            raise GrammarRejected(f"the parameters of the tool {tool.name}: {reasons[tool.name]}")
    for name in reasons:
        observer.relax(f"{name}: parameters")
    return replace(config, tools=tuple(_freed(tool) if tool.name in reasons else tool for tool in config.tools))


async def _rejection(model: ServedModel, tool: Tool, caller: Caller) -> str:
    try:
        await model.host.engine.check_grammar(Grammar(GrammarKind.JSON_SCHEMA, embedded(tool.schema)), caller)
    except GrammarRejected as error:
        return error.reason
    return ""


def _freed(tool: Tool) -> Tool:
    return replace(tool, enforced=_ANY_ARGUMENTS)


_T = TypeVar("_T")

_PROMPT_END = 16
"""Tokens at the end of a prompt in which it may open the reasoning."""

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
    progress_seconds: float | None = None
    """Least time between reports of progress before the first piece of the first answer; None wants none."""
    salts: PrefixSalts = NO_SALTS
    common_tokens: int = 0
    """Length of the part of the prompt that callers share though each has a prefix cache of its own."""
    remote: RemotePrompt | None = None
    """In place of ``prompt_ids``, where an upstream makes the prompt."""


async def generate(model: ServedModel, request: GenerationRequest, context: RequestContext) -> Generation:
    """Hand ``request`` to the model's engine. Returns and raises as ``generate_all`` does."""
    return await generate_all(model, (request,), context)


async def generate_all(
    model: ServedModel, requests: Sequence[GenerationRequest], context: RequestContext
) -> Generation:
    """Hand ``requests``, one for each prompt, to the model's engine; all of them are admitted or none.

    Returns the running generation, which the caller closes. The model stays loaded until then.

    Raises:
        RequestRejected: the engine does not take one of them; nothing is left running.
        EngineUnavailable: there is no engine to take them.
    """
    tokenizer = model.tokenizer
    with ExitStack() as resources:
        resources.enter_context(model.keep_loaded())
        prompts: list[PromptOutputs] = []
        try:
            for request in requests:
                first = sum(len(prompt.outputs) for prompt in prompts)
                prompts.append(await _submit(model, request, context, first))
        except BaseException:
            await close_all(output for prompt in prompts for output in prompt.outputs)
            raise
        if context.log_texts:
            for request in requests:
                log_prompt(request.prompt_ids, tokenizer) if request.remote is None else log_remote(request.remote)
        deadline = Deadline(context)
        resources.callback(deadline.close)
        return Generation(prompts, tokenizer, deadline, resources.pop_all(), log_answers=context.log_texts)


async def _submit(model: ServedModel, request: GenerationRequest, context: RequestContext, first: int) -> PromptOutputs:
    """Submit the sequences of one prompt, whose answers are numbered from ``first`` on. Raises as ``generate`` does."""
    progress = RequestProgress(model.card.name, len(request.prompt_ids), request.scores_only)
    outputs: list[AnswerOutput] = []
    try:
        if request.tools is not None and request.remote is None:
            request = await _with_usable_tools(model, request, request.tools, context)
        for index in range(request.n):
            one = replace(request, params=_params_of(request, index))
            outputs.append(await _open(model, one, first + index, progress, context))
    except BaseException:
        await close_all(outputs)
        raise
    context.observer.begin(progress)
    scores = request.params.prompt_logprobs is not None
    return PromptOutputs(tuple(outputs), scores)


async def _open(
    model: ServedModel, request: GenerationRequest, index: int, progress: RequestProgress, context: RequestContext
) -> AnswerOutput:
    """Have one answer written, by the engine or by the upstream. Raises as ``generate`` does, or UpstreamError."""
    if request.remote is None:
        caller = _caller(request, context)
        stream = await model.host.engine.submit(request.prompt_ids, request.params, model.adapter, caller)
        return _output(model, request, index, stream, progress)
    upstream = model.upstream
    assert upstream is not None, "a prompt for an upstream, and none"
    body = await off_loop(partial(_remote_body, request.remote, request, upstream, context), context.body_bytes)
    source = await upstream.stream(CHAT_PATH, body, context.request_id)
    tally = RemoteTally(upstream, progress, context.body_bytes)
    return RemoteOutput(index, source, tally, ChatReader(_new_call_id))


def _remote_body(
    prompt: RemotePrompt, request: GenerationRequest, upstream: "Upstream", context: RequestContext
) -> dict[str, object]:
    own, owner = request.salts.salt, context.prefix_owner
    body = chat_body(prompt, request.params, request.stop, request.tools, upstream.place.model)
    return {**body, "cache_salt": salt(owner, own) if owner else own} if owner or own else body


def _caller(request: GenerationRequest, context: RequestContext) -> Caller:
    return Caller(context.caller, context.seconds_left(), _scope(request, context), context.background)


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
        return generation.completion([delta async for delta in generation])
    finally:
        await generation.aclose()


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
    model: ServedModel, request: GenerationRequest, tools: ToolConfig, context: RequestContext
) -> GenerationRequest:
    """Return ``request`` with a grammar that the engine takes, as far as its tools decide. Raises GrammarRejected."""
    caller, grammar = _caller(request, context), request.params.grammar
    if grammar is None:
        return request
    try:
        await model.host.engine.check_grammar(grammar, caller)
    except GrammarRejected as rejection:
        tools = await without_rejected_schemas(model, tools, rejection, caller, context.observer)
        return replace(request, tools=tools, params=replace(request.params, grammar=model.tool_grammar(tools)))
    return request


def _output(
    model: ServedModel,
    request: GenerationRequest,
    index: int,
    outputs: AsyncGenerator[StepOutput, None],
    progress: RequestProgress,
) -> RequestOutput:
    call_format = model.prompt_format.tool_format
    parser = (
        call_format.parser(request.tools, _new_call_id)
        if call_format is not None and request.tools is not None
        else None
    )
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
        reasoning=_reasoning_parser(model, request),
    )


def _reasoning_parser(model: ServedModel, request: GenerationRequest) -> ReasoningParser | None:
    """Return a parser for the reasoning of an answer; None where there can be none.

    An answer in a format, or one that has to call, consists of that from its first token on.
    """
    tools = request.tools
    is_free = request.params.grammar is None or (
        tools is not None and tools.choice is ToolChoice.AUTO and tools.text_format is None
    )
    if not model.prompt_format.thinks or not is_free:
        return None
    end = b"".join(map(model.tokenizer.piece, request.prompt_ids[-_PROMPT_END:]))
    return ReasoningParser(is_open=opens_reasoning(end))


def _new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _params_of(request: GenerationRequest, index: int) -> SamplingParams:
    """Return the parameters of answer ``index``: each has its own seed; the first scores the prompt and reports."""
    params = request.params
    if index == 0:
        every = request.progress_seconds
        return params if every is None else replace(params, progress_seconds=every)
    seed = None if params.seed is None else (params.seed + index) % SEED_SPAN
    return replace(params, seed=seed, prompt_logprobs=None)
