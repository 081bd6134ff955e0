"""Translates a checked request of ``/v1/responses`` to the parameters that all dialects share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from glmserve.api.common.fields import to_sampling, token_limit
from glmserve.api.openai.responses.conversation import Item, parse_items, to_messages, user_item
from glmserve.api.openai.responses.protocol import ResponsesRequest, format_grammar, parse_responses_request
from glmserve.api.openai.responses.tools import to_tool_config
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task, VariableError
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams, Truncation
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.served_model import ModelCard, ServedModel


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


def to_params(body: ResponsesRequest, items: Sequence[Item], task: Task | None, card: ModelCard) -> ChatParams:
    """Return the parameters of ``body`` for the model of ``card``, where the conversation is ``items``.

    Raises:
        InvalidRequest: it contradicts itself.
        ToolError: a tool is not acceptable.
    """
    prompt = to_prompt_params(body, items)
    if prompt.tools is not None:
        _check_text_only(body)
    answer = AnswerParams(
        replace(to_sampling(body, card), logprobs=body.logprobs),
        token_limit(body.max_output_tokens, body.min_tokens),
        grammar=format_grammar(body.text),
        constraint=None if task is None else task.output_constraint(_values(body)),
        stop=body.stop,
        salts=body.salts,
    )
    return ChatParams(prompt, answer)


def to_prompt_params(body: ResponsesRequest, items: Sequence[Item]) -> PromptParams:
    """Return the part of the parameters that the prompt is made from. Raises as ``to_params`` does."""
    instructions = (Message(Role.SYSTEM, body.instructions),) if body.instructions else ()
    messages = (*instructions, *to_messages(items))
    truncation = _truncation(messages) if body.truncation == "auto" else None
    return PromptParams(messages, to_tool_config(body), truncation=truncation)


def left(items: Sequence[Item], start: int, model: ServedModel) -> tuple[Item, ...]:
    """Return the items of a prompt that begins with start number ``start``, as far as a context could hold them."""
    cuts = _truncation([item.message for item in items])
    kept = (*items[: cuts.fixed], *items[cuts.starts[start] :])
    return latest(kept, model.context_length, model.most_characters)


def latest(items: Sequence[Item], most_items: int, most_characters: int) -> tuple[Item, ...]:
    """Return the latest of a conversation that a context could hold, the last question at least.

    A prompt of the whole conversation holds no more; some models are given the last question alone.
    """
    cuts = _truncation([item.message for item in items])
    fixed, starts = cuts.fixed, cuts.starts
    sizes = [item.message.characters + 1 for item in items]
    characters = sum(sizes)
    for before, start in zip((fixed, *starts), starts, strict=False):
        characters -= sum(sizes[before:start])
        if characters <= most_characters and fixed + len(items) - start <= most_items:
            break
    return (*items[:fixed], *items[start:])


def _truncation(messages: Sequence[Message]) -> Truncation:
    """Return where the rest of a conversation can begin: with any question, not with an answer or a call's result."""
    fixed = len(list(takewhile(lambda message: message.role is Role.SYSTEM, messages)))
    questions = (at for at, message in enumerate(messages) if at > fixed and message.role is Role.USER)
    return Truncation(fixed, (fixed, *questions))


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
