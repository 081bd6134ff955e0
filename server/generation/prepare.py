"""From a translated request to a generation request: the steps that all dialects share, in one order.

Encode the prompt, find the room for the answer, set its token limit, apply the output constraint, make the grammar.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from glmserve.chat.prompts.messages import Message
from glmserve.chat.tasks.task import OutputConstraint
from glmserve.chat.tools.types import ToolConfig
from glmserve.engine.errors import PromptTooLong
from glmserve.engine.params import MAX_TOKENS, Grammar, GrammarKind, SamplingParams
from glmserve.generation.generate import NO_SALTS, GenerationRequest, PrefixSalts
from glmserve.http.errors import InvalidRequest, TextTooLong
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.served_model import EncodedPrompt, ServedModel

_ROOM_KEPT = 512
_ROOM_KEPT_SHARE = 4

EncodeFrom = Callable[[int], Awaitable[EncodedPrompt]]
"""Encodes a conversation without its first N parts."""


async def encode_latest(encode: EncodeFrom, last: int, context_length: int) -> EncodedPrompt:
    """Return the prompt with the latest that the context holds beside some room to answer.

    Halving finds how much that is in a few encodings however long the conversation is. The oldest is left out by the
    stride: the next requests of the conversation then begin with the same part, and find their prompt in the cache.

    Args:
        encode: gives the prompts.
        last: the most parts that can be left out; that prompt is returned even where it does not fit.
        context_length: tokens of prompt and answer together.

    Raises:
        TextTooLong: even the last prompt is so long that it was not tokenised.
    """
    # A part is a token at least: of a million parts, most need not be looked at.
    hopeless = max(0, last - context_length)
    prompt = None if hopeless else await _encode_if_fits(encode, 0, context_length)
    if prompt is not None:
        return prompt
    low, high = max(1, hopeless), last
    while low < high:
        middle = (low + high) // 2
        if await _encode_if_fits(encode, middle, context_length) is None:
            low = middle + 1
        else:
            high = middle
    return await encode(min(last, next_stride(low, last - low)))


def next_stride(first: int, fitting: int) -> int:
    """Return a part from ``first`` on that stays the same while a conversation grows by some parts.

    Of the ``fitting`` ones after ``first`` at least half are kept: the stride is a power of two up to half of them, so
    that it seldom changes with the length of parts.
    """
    stride = 1 << max(0, (fitting // 2).bit_length() - 1)
    return -(-first // stride) * stride


async def _encode_if_fits(encode: EncodeFrom, first: int, context_length: int) -> EncodedPrompt | None:
    """Return the prompt, or None where it leaves too little room to answer."""
    kept = min(_ROOM_KEPT, context_length // _ROOM_KEPT_SHARE)
    try:
        prompt = await encode(first)
    except TextTooLong:
        return None
    return prompt if len(prompt.ids) + kept <= context_length else None


_NO_CONSTRAINT = OutputConstraint()


@dataclass(frozen=True, slots=True)
class Truncation:
    """Which of the oldest messages may be left out of a prompt that is too long."""

    fixed: int
    """Number of messages at the beginning that always stay."""
    starts: tuple[int, ...]
    """Indices of the messages that the rest may begin with. The first one leaves nothing out."""


@dataclass(frozen=True, slots=True)
class PromptParams:
    """A conversation to answer."""

    messages: tuple[Message, ...]
    tools: ToolConfig | None = None
    """Tools that the prompt describes and the answer may call."""
    continued: bool = False
    """The answer continues the last message, which is the assistant's, and calls no tool."""
    truncation: Truncation | None = None
    """None rejects a prompt that is too long."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Variables for the model's chat template."""


@dataclass(frozen=True, slots=True)
class AnswerParams:
    """The answers that a request asks for, with a prompt of any kind."""

    sampling: SamplingParams
    """With the model's defaults. ``max_tokens`` and ``grammar`` of it are set here, by what the other fields say."""
    max_tokens: int | None = None
    """Token limit of an answer; None is the model's default."""
    max_total_tokens: int | None = None
    """Token limit of prompt and answer together, in place of ``max_tokens``."""
    room_kept: int = 1
    """Tokens that an answer may have however much of ``max_total_tokens`` the prompt takes."""
    grammar: Grammar | None = None
    """Grammar that the request asks for."""
    constraint: OutputConstraint | None = None
    """Grammar and stop strings of a request that has none of its own; None takes the model's."""
    stop: tuple[str, ...] = ()
    n: int = 1
    scores_only: bool = False
    """See ``GenerationRequest``."""
    salts: PrefixSalts = NO_SALTS


@dataclass(frozen=True, slots=True)
class ChatParams:
    """A chat request of any dialect. Each dialect makes it in one pure function."""

    prompt: PromptParams
    answer: AnswerParams


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model gets it."""

    encoded: EncodedPrompt
    start: int = 0
    """Index in ``Truncation.starts`` of the message that the rest begins with."""


async def prepare(model: ServedModel, params: ChatParams, context: RequestContext) -> GenerationRequest:
    """Return the generation request of ``params`` for ``model``.

    Raises:
        InvalidRequest: it asks for more answers than the model gives.
        PromptError: the prompt format cannot express the messages or the tools.
        PromptTooLong: the context leaves no room for an answer.
        TextTooLong: the text is so long that it was not tokenised.
        EngineUnavailable: the model is not ready.
    """
    check_answers(params.answer.n, model)
    return await to_request(model, params, await encode_prompt(model, params.prompt, context), context)


async def to_request(
    model: ServedModel, params: ChatParams, prompt: Prompt, context: RequestContext
) -> GenerationRequest:
    """Return the generation request of ``params`` after its ``prompt`` was encoded. Raises as ``prepare`` does."""
    given = params.prompt
    answer = params.answer
    if answer.constraint is None:
        answer = replace(answer, constraint=model.output_constraint(given.messages))
    tools = None if given.continued else given.tools
    return await answer_request(model, answer, prompt.encoded, context, tools, continued=given.continued)


async def encode_prompt(model: ServedModel, params: PromptParams, context: RequestContext) -> Prompt:
    """Return the prompt, without the oldest messages if it is too long and may be truncated.

    Raises:
        PromptError: the prompt format cannot express the messages or the tools.
        TextTooLong: the text is so long that it was not tokenised.
        EngineUnavailable: the model is not ready.
    """
    tools = () if params.tools is None else params.tools.tools
    messages, truncation = params.messages, params.truncation
    if truncation is None:
        encoded = await model.encode(messages, context, tools, continued=params.continued, options=params.options)
        return Prompt(encoded)
    fixed, starts = truncation.fixed, truncation.starts
    start = 0

    async def encode_from(index: int) -> EncodedPrompt:
        nonlocal start
        start = index
        kept = (*messages[:fixed], *messages[starts[index] :])
        return await model.encode(kept, context, tools, options=params.options)

    encoded = await encode_latest(encode_from, len(starts) - 1, model.context_length)
    return Prompt(encoded, start)


async def answer_request(
    model: ServedModel,
    params: AnswerParams,
    prompt: EncodedPrompt,
    context: RequestContext,
    tools: ToolConfig | None = None,
    *,
    continued: bool = False,
) -> GenerationRequest:
    """Return the generation request of the answers to ``prompt``.

    Args:
        model: that answers.
        params: of the answers.
        prompt: the ids.
        context: of the request.
        tools: that the answers may call.
        continued: the prompt ends within an answer.

    Raises:
        PromptError: the model can be told of no tools.
        PromptTooLong: the context leaves no room for an answer.
    """
    limit = _token_limit(params, model, len(prompt.ids)) if prompt.remote is None else _remote_limit(params, model)
    constraint = params.constraint or _NO_CONSTRAINT
    grammar = params.grammar or constraint.grammar
    if prompt.remote is not None:
        grammar = params.grammar or _remote_grammar(constraint.grammar, context)
    elif tools is not None:
        tools = replace(tools, text_format=grammar)
        grammar = await off_loop(partial(model.tool_grammar, tools), context.body_bytes)
    least = min(params.sampling.min_tokens, limit)
    return GenerationRequest(
        prompt.ids,
        replace(params.sampling, max_tokens=limit, min_tokens=least, grammar=grammar),
        stop=params.stop or constraint.stop,
        n=params.n,
        tools=tools,
        continued=continued,
        scores_only=params.scores_only,
        salts=params.salts,
        common_tokens=prompt.common_tokens,
        remote=prompt.remote,
    )


def _remote_grammar(grammar: Grammar | None, context: RequestContext) -> Grammar | None:
    """Return the grammar of a task, unless it is in the dialect of this server's own grammars: upstreams differ."""
    if grammar is None or grammar.kind is not GrammarKind.LARK:
        return grammar
    context.observer.relax("the grammar of the task")
    return None


def _remote_limit(params: AnswerParams, model: ServedModel) -> int:
    """Return the token limit of an answer that an upstream writes, ``MAX_TOKENS`` for the upstream's own default.

    The tokens of a prompt are not known here: where a limit counts them, too, it is that of the answer.
    """
    asked = params.max_total_tokens if params.max_total_tokens is not None else params.max_tokens
    limit = asked or model.card.default_max_tokens
    return min(max(1, limit), model.card.max_output_tokens or MAX_TOKENS)


def check_answers(n: int, model: ServedModel) -> None:
    """Reject more answers than the model gives. Raises InvalidRequest."""
    if n > model.max_choices:
        raise InvalidRequest(f"n must be at most {model.max_choices} on this server, not {n}", param="n")


def room_for_answer(model: ServedModel, prompt_tokens: int) -> int:
    """Return the token limit of an answer: the rest of the context after a prompt, at least one, or the model's limit.

    Raises:
        PromptTooLong: it leaves none.
    """
    room = model.context_length - prompt_tokens
    if room < 1:
        raise PromptTooLong(prompt_tokens, model.context_length)
    return min(room, model.card.max_output_tokens or room)


def _token_limit(params: AnswerParams, model: ServedModel, prompt_tokens: int) -> int:
    """Return the token limit of the answer, silently cut to the room in the context."""
    room = room_for_answer(model, prompt_tokens)
    if params.max_total_tokens is not None:
        return min(room, max(params.room_kept, params.max_total_tokens - prompt_tokens))
    default = max(model.card.default_max_tokens, params.sampling.min_tokens)
    return min(room, default if params.max_tokens is None else params.max_tokens)
