"""Translates a checked request of ``/v1/messages`` to a generation request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from glmserve.api.common.sampling import answer_tokens, to_sampling
from glmserve.api.common.tools import answer_grammar, with_format
from glmserve.api.openai.responses.input_items import Item, parse_items, to_messages, user_item
from glmserve.api.openai.responses.protocol import ResponsesRequest, parse_responses_request
from glmserve.api.openai.responses.text_format import format_grammar
from glmserve.api.openai.responses.tools import to_offer
from glmserve.chat.prompts.message import Message, Role
from glmserve.chat.tasks.task import Task, VariableError
from glmserve.engine.errors import PromptTooLong
from glmserve.generation.generate import GenerationRequest, room_for_answer
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.registry import EncodedPrompt, ServedModel
from glmserve.model_pool.truncation import encode_latest


def with_defaults(body: ResponsesRequest, task: Task) -> ResponsesRequest:
    """Return ``body`` with the sampling of the stored prompt where it does not say otherwise."""
    sampling = task.sampling
    defaults: dict[str, object] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_output_tokens": sampling.max_tokens,
    }
    return body.model_copy(update={name: value for name, value in defaults.items() if getattr(body, name) is None})


@dataclass(frozen=True, slots=True)
class Given:
    """A request as it came: its fields, and its input as items."""

    fields: ResponsesRequest
    items: tuple[Item, ...]


def parse_given(body: Mapping[str, object]) -> Given:
    """Return a body as a checked request. Raises InvalidRequest; ``param`` is the path of the field."""
    fields = parse_responses_request(body)
    return Given(fields, () if fields.input is None else parse_items(fields.input, "input"))


def new_items(given: Given, task: Task | None) -> tuple[Item, ...]:
    """Return the items of the request itself: the stored prompt, then its input.

    Raises:
        InvalidRequest: there is neither, or the values do not fit the prompt.
    """
    items = given.items
    if task is not None:
        items = (user_item(_filled(task, given.fields)), *items)
    if not items:
        raise InvalidRequest("input is required", param="input", code="missing_required_parameter")
    return items


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request."""

    ids: tuple[int, ...]
    common_tokens: int
    items: tuple[Item, ...]
    """Items of the conversation that remain after truncation."""


async def to_generation(
    body: ResponsesRequest, prompt: Prompt, task: Task | None, model: ServedModel
) -> GenerationRequest:
    """Return the generation that ``body`` requests of ``model`` after ``prompt``.

    Raises:
        InvalidRequest: it contradicts itself.
        ToolError: a tool is not acceptable.
        PromptError: the model can be told of no tools.
        PromptTooLong: the context leaves no room for an answer.
    """
    room = room_for_answer(model, len(prompt.ids))
    max_tokens = answer_tokens(body.max_output_tokens, body.min_tokens, model.card.default_max_tokens, room)
    form = model.answer_form(to_messages(prompt.items)) if task is None else task.answer_form(_values(body))
    asked_format = await off_loop(partial(format_grammar, body.text)) or form.grammar
    offer = with_format(await off_loop(partial(to_offer, body)), asked_format)
    if offer is not None:
        _check_text_only(body)
    grammar = await off_loop(partial(answer_grammar, model, offer, asked_format))
    params = replace(to_sampling(body, model.card, max_tokens), logprobs=body.logprobs, grammar=grammar)
    return GenerationRequest(
        prompt.ids,
        params,
        stop=body.stop or form.stop,
        tools=offer,
        salts=body.salts,
        common_tokens=prompt.common_tokens,
    )


async def to_prompt(
    body: ResponsesRequest, items: Sequence[Item], model: ServedModel, context: RequestContext
) -> Prompt:
    """Return the prompt, without the oldest of the conversation where ``truncation`` is auto and it is too long.

    Raises:
        PromptError: the prompt format cannot express the items.
        PromptTooLong: there are more items than tokens.
        TextTooLong: there is more text than tokens.
        EngineUnavailable: the model is not ready.
    """
    offer = await off_loop(partial(to_offer, body))
    tools = () if offer is None else offer.tools
    instructions = [Message(Role.SYSTEM, body.instructions)] if body.instructions else []
    fixed, starts = _starts(items)
    kept = tuple(items)

    async def encode_from(first: int) -> EncodedPrompt:
        nonlocal kept
        kept = (*items[:fixed], *items[starts[first] :])
        messages = await off_loop(partial(to_messages, kept))
        return await model.encode([*instructions, *messages], context, tools)

    if body.truncation == "auto":
        encoded = await encode_latest(encode_from, len(starts) - 1, model.context_length)
    elif len(items) > model.context_length:
        raise PromptTooLong(len(items), model.context_length)
    else:
        encoded = await encode_from(0)
    most = model.context_length
    return Prompt(encoded.ids, encoded.common_tokens, latest(kept, most, most * model.tokenizer.max_piece_chars))


def latest(items: Sequence[Item], most_items: int, most_characters: int) -> tuple[Item, ...]:
    """Return the latest of a conversation that a context could hold, the last question at least.

    A prompt of the whole conversation holds no more; some models are given the last question alone.
    """
    fixed, starts = _starts(items)
    sizes = [item.message.characters + 1 for item in items]
    characters = sum(sizes)
    for before, start in zip((fixed, *starts), starts, strict=False):
        characters -= sum(sizes[before:start])
        if characters <= most_characters and fixed + len(items) - start <= most_items:
            break
    return (*items[:fixed], *items[start:])


def _starts(items: Sequence[Item]) -> tuple[int, list[int]]:
    """Return the number of items that always stay, and the indices where the remaining items can begin.

    That is any question, but not an answer or the result of a call.
    """
    fixed = len(list(takewhile(lambda item: item.message.role is Role.SYSTEM, items)))
    return fixed, [fixed, *(at for at, item in enumerate(items) if at > fixed and item.message.role is Role.USER)]


def _check_text_only(body: ResponsesRequest) -> None:
    """Reject fields that need a text answer and exclude tool calls. Raises InvalidRequest."""
    if body.logprobs is not None:
        field = "include" if body.top_logprobs is None else "top_logprobs"
        raise InvalidRequest(
            "logprobs are only available for text: leave the tools out, or set tool_choice to none", param=field
        )


def _values(body: ResponsesRequest) -> Mapping[str, str]:
    return (body.prompt and body.prompt.variables) or {}


def _filled(task: Task, body: ResponsesRequest) -> str:
    try:
        return task.fill(_values(body))
    except VariableError as error:
        raise InvalidRequest(str(error), param=f"prompt.variables.{error.variable}") from None
