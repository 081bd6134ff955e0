"""Translates a checked request of ``/v1/messages`` to a generation request."""

from dataclasses import dataclass, replace
from functools import partial

from glmserve.api.anthropic.content_blocks import to_messages
from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest
from glmserve.api.common.sampling import SamplingFields, to_sampling
from glmserve.api.common.structured_output import schema_grammar
from glmserve.api.common.tools import (
    AskedChoice,
    FunctionDefinition,
    answer_grammar,
    check_no_call_is_due,
    offer_functions,
    with_format,
)
from glmserve.chat.prompts.message import Message, Role
from glmserve.chat.tasks.task import OutputConstraint
from glmserve.chat.tools.types import ToolConfig
from glmserve.generation.generate import GenerationRequest, room_for_answer
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.registry import ServedModel


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request."""

    ids: tuple[int, ...]
    common_tokens: int
    form: OutputConstraint
    offer: ToolConfig | None
    continued: bool
    """It ends within the answer, which the last message began."""


async def to_prompt(body: PromptRequest, model: ServedModel, context: RequestContext) -> Prompt:
    """Return the prompt of a request.

    Raises:
        InvalidRequest: its fields contradict each other, or a block is not supported.
        ToolError: a tool is not acceptable.
        PromptError: the prompt format cannot express the messages or the tools.
        TextTooLong: it is so long that it was not tokenised.
        EngineUnavailable: the model is not ready.
    """
    messages = await off_loop(partial(_messages, body))
    offer = await off_loop(partial(_offer, body))
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    continued = messages[-1].role is Role.ASSISTANT
    if continued and messages[-1].tool_calls:
        raise InvalidRequest("the results of the last message's tools are missing after it", param="messages")
    tools = () if offer is None else offer.tools
    encoded = await model.encode(messages, context, tools, continued=continued)
    if continued:
        check_no_call_is_due(offer, "tool_choice")
        offer = None
    return Prompt(encoded.ids, encoded.common_tokens, model.answer_form(messages), offer, continued)


async def to_generation(body: MessagesRequest, model: ServedModel, context: RequestContext) -> GenerationRequest:
    """Translate ``body`` to a generation request for ``model``.

    Raises:
        PromptTooLong: the context leaves no room for an answer.
        Exception: what ``to_prompt`` raises.
    """
    prompt = await to_prompt(body, model, context)
    max_tokens = min(body.max_tokens, room_for_answer(model, len(prompt.ids)))
    fields = SamplingFields(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k)
    params = to_sampling(fields, model.card, max_tokens)
    asked = None if body.output_config is None else body.output_config.format
    path = "output_config.format.schema"
    wanted = None if asked is None else await off_loop(partial(schema_grammar, asked.json_schema, path))
    asked_format = wanted or prompt.form.grammar
    offer = with_format(prompt.offer, asked_format)
    grammar = await off_loop(partial(answer_grammar, model, offer, asked_format))
    return GenerationRequest(
        prompt.ids,
        replace(params, grammar=grammar),
        stop=body.stop_sequences or prompt.form.stop,
        tools=offer,
        continued=prompt.continued,
        common_tokens=prompt.common_tokens,
    )


def _messages(body: PromptRequest) -> list[Message]:
    messages = [Message(Role.SYSTEM, body.system)] if body.system else []
    for index, given in enumerate(body.messages):
        messages += to_messages(given, f"messages[{index}]")
    return messages


def _offer(body: PromptRequest) -> ToolConfig | None:
    functions = [
        FunctionDefinition(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
        for tool in body.tools or ()
        if tool is not None
    ]
    asked = body.tool_choice
    if asked is None:
        return offer_functions(functions, None, "tool_choice", parallel=True)
    if asked.type == "tool" and asked.name is None:
        path = "tool_choice.name"
        raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    choice = {
        "auto": AskedChoice(mode="auto"),
        "any": AskedChoice(mode="required"),
        "tool": AskedChoice(mode="required", allowed=(asked.name or "",)),
        "none": AskedChoice(mode="none"),
    }[asked.type]
    return offer_functions(functions, choice, "tool_choice", parallel=not asked.disable_parallel_tool_use)
