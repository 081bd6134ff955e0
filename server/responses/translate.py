"""From the wire's request to what the door to generation takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from server.errors import InvalidRequest
from server.generation.generate import GenerationRequest, room_for_answer
from server.hosting.fitting import encode_latest
from server.hosting.registry import ServedModel
from server.openai.sampling import answer_tokens, to_sampling
from server.openai.tool_schemas import answer_grammar, with_format
from server.prompts.message import Message, Role
from server.responses.items import Item, parse_items, to_messages, user_item
from server.responses.schemas import ResponsesRequest
from server.responses.text_format import format_grammar
from server.responses.tool_schemas import to_offer
from server.tasks.task import Task, VariableError


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


def new_items(body: ResponsesRequest, task: Task | None) -> tuple[Item, ...]:
    """Return what the request itself puts in: the stored prompt, then its input.

    Raises:
        InvalidRequest: there is neither, or the values do not fit the prompt.
    """
    items = () if body.input is None else parse_items(body.input, "input")
    if task is not None:
        items = (user_item(_filled(task, body)), *items)
    if not items:
        raise InvalidRequest("input is required", param="input", code="missing_required_parameter")
    return items


async def to_generation(
    body: ResponsesRequest, items: Sequence[Item], task: Task | None, model: ServedModel
) -> GenerationRequest:
    """Return what ``body`` asks of ``model``, after all ``items`` of the conversation.

    Raises:
        InvalidRequest: it contradicts itself.
        ToolError: a tool is not acceptable.
        PromptError: the prompt format cannot express the items.
        PromptTooLong: the context leaves no room for an answer.
        EngineUnavailable: the model is not ready.
    """
    prompt_ids = await encode(body, items, model)
    room = room_for_answer(model, len(prompt_ids))
    max_tokens = answer_tokens(body.max_output_tokens, body.min_tokens, model.card.default_max_tokens, room)
    form = model.answer_form(to_messages(items)) if task is None else task.answer_form(_values(body))
    asked_format = format_grammar(body.text) or form.grammar
    offer = with_format(to_offer(body), asked_format)
    if offer is not None:
        _check_text_only(body)
    grammar = answer_grammar(model, offer, asked_format)
    params = replace(to_sampling(body, model.card, max_tokens), logprobs=body.logprobs, grammar=grammar)
    return GenerationRequest(prompt_ids, params, stop=body.stop or form.stop, tools=offer, salts=body.salts)


async def encode(body: ResponsesRequest, items: Sequence[Item], model: ServedModel) -> tuple[int, ...]:
    """Return the prompt, without the oldest of the conversation where ``truncation`` is auto and it is too long."""
    messages = to_messages(items)
    offer = to_offer(body)
    tools = () if offer is None else offer.tools
    instructions = [Message(Role.SYSTEM, body.instructions)] if body.instructions else []
    fixed = len(list(takewhile(lambda message: message.role is Role.SYSTEM, messages)))
    # What is left can begin with any question, but not with an answer or with the result of a call.
    starts = [fixed, *(at for at, message in enumerate(messages) if at > fixed and message.role is Role.USER)]

    async def encode_from(first: int) -> tuple[int, ...]:
        return await model.encode([*instructions, *messages[:fixed], *messages[starts[first] :]], tools)

    if body.truncation != "auto":
        return await encode_from(0)
    return await encode_latest(encode_from, len(starts) - 1, model.context_length)


def _check_text_only(body: ResponsesRequest) -> None:
    """Refuse what goes with a text and not with calls. Raises InvalidRequest."""
    if body.logprobs is not None:
        field = "include" if body.top_logprobs is None else "top_logprobs"
        raise InvalidRequest(
            "log-probabilities are those of a text: leave the tools out, or set tool_choice to none", param=field
        )


def _values(body: ResponsesRequest) -> Mapping[str, str]:
    return (body.prompt and body.prompt.variables) or {}


def _filled(task: Task, body: ResponsesRequest) -> str:
    try:
        return task.fill(_values(body))
    except VariableError as error:
        raise InvalidRequest(str(error), param=f"prompt.variables.{error.variable}") from None
