"""Translates a checked request of ``/v1/messages`` to the parameters that all dialects share."""

from glmserve.api.anthropic.content_blocks import to_messages
from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest
from glmserve.api.common.sampling import SamplingFields, to_sampling
from glmserve.api.common.structured_output import schema_grammar
from glmserve.api.common.tools import AskedChoice, FunctionDefinition, check_no_call_is_due, offer_functions
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import ToolConfig
from glmserve.engine.grammar import Grammar
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.registry import ModelCard


def to_params(body: MessagesRequest, card: ModelCard) -> ChatParams:
    """Return the parameters of ``body`` for the model of ``card``. Raises as ``to_prompt_params`` does."""
    prompt = to_prompt_params(body)
    fields = SamplingFields(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k)
    answer = AnswerParams(to_sampling(fields, card), body.max_tokens, grammar=_grammar(body), stop=body.stop_sequences)
    return ChatParams(prompt, answer)


def to_prompt_params(body: PromptRequest) -> PromptParams:
    """Return the part of the parameters that the prompt is made from.

    Raises:
        InvalidRequest: its fields contradict each other, or a block is not supported.
        ToolError: a tool is not acceptable.
    """
    messages, offer = _messages(body), _offer(body)
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    continued = messages[-1].role is Role.ASSISTANT
    if continued and messages[-1].tool_calls:
        raise InvalidRequest("the results of the last message's tools are missing after it", param="messages")
    if continued:
        check_no_call_is_due(offer, "tool_choice")
    return PromptParams(tuple(messages), offer, continued)


def _grammar(body: MessagesRequest) -> Grammar | None:
    asked = None if body.output_config is None else body.output_config.format
    return None if asked is None else schema_grammar(asked.json_schema, "output_config.format.schema")


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
