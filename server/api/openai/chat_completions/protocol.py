"""The body of a chat request: its fields, its checks, and its translation to the parameters of all dialects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, ListOf, RequestObject, TextContent, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, check_neutral
from glmserve.api.common.fields import (
    AnswerCount,
    AsWhole,
    CacheFields,
    ModelName,
    SamplingFields,
    Stream,
    StreamOptionsField,
    TokenLimit,
    to_sampling,
    token_limit,
)
from glmserve.api.common.structured_output import GrammarFields, to_grammar
from glmserve.api.common.tools import EarlierCall, FunctionCall, ToolFields, check_no_call_is_due, to_tool_config
from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.tools.types import ToolCall, ToolConfig
from glmserve.engine.params import MAX_LOGPROBS
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.served_model import ModelCard

_NO_THINKING = "use chat_template_kwargs for what the chat template of the model file knows"
_IGNORED = (
    Ignored("reasoning_effort", _NO_THINKING),
    Ignored("reasoning", _NO_THINKING),
    Ignored("thinking", _NO_THINKING),
    Ignored("enable_thinking", _NO_THINKING),
    Ignored("include_reasoning", _NO_THINKING),
    Ignored("user_id"),
    Ignored("user"),
    Ignored("metadata"),
    Ignored("store", "nothing is stored"),
    Ignored("service_tier"),
    Ignored("safety_identifier"),
    Ignored("prompt_cache_retention"),
    Ignored("prompt_cache_options"),
    Ignored("cache_prompt", "prefixes are always cached"),
    Ignored("verbosity"),
    Ignored("moderation"),
    Ignored("request_id"),
    Ignored("max_length", "use max_tokens to limit the answer"),
    Ignored("function", "ChatGLM3's example client sends it; its server ignores it, too; use tools"),
    Ignored("skip_special_tokens", "special tokens are never part of the text"),
    Ignored("spaces_between_special_tokens"),
    Ignored("stream_reasoning", "reasoning is streamed as it comes"),
    Ignored("rid"),
)

_REJECTED = (
    Rejected("prompt_logprobs", (0,)),
    Rejected("modalities", ("text",)),
    Rejected("audio"),
    Rejected("prediction"),
    Rejected("suffix"),
    Rejected("web_search_options"),
    Rejected("chat_template"),
    Rejected("add_special_tokens", (False,)),
    Rejected("documents"),
    Rejected("echo", (False,)),
    Rejected("best_of", (1,)),
    Rejected("use_beam_search", (False,)),
    Rejected("num_beams", (1,)),
    Rejected("length_penalty", (1,)),
    Rejected("early_stopping", (False,)),
    Rejected("stop_token_ids"),
    Rejected("bad_words"),
    Rejected("allowed_token_ids"),
    Rejected("include_stop_str_in_output", (False,)),
    Rejected("truncate_prompt_tokens", (-1,)),
    Rejected("grammar", (), "use structured_outputs"),
    Rejected("json_schema", (), "use response_format"),
    Rejected("guided_decoding_backend", (), "the server has only one backend"),
    Rejected("guided_whitespace_pattern"),
    Rejected("logits_processors"),
    Rejected("typical_p", (1,)),
    Rejected("top_a", (0,)),
    Rejected("tfs_z", (1,)),
    Rejected("mirostat", (0,)),
    Rejected("mirostat_mode", (0,)),
    Rejected("repeat_penalty", (1,), "use repetition_penalty"),
    Rejected("n_predict", (-1,), "use max_tokens"),
    Rejected("lora"),
    Rejected("no_stop_trim", (False,), "gateways send false"),
    Rejected("separate_reasoning", (True,), "reasoning is always apart from the text"),
    Rejected("return_hidden_states", (False,)),
)

CHAT = FieldPolicy(_IGNORED, _REJECTED)
"""The fields of the body that are not supported."""

MESSAGE_REJECTED = (Rejected("audio"),)
"""Rejected fields of a message. Any other unknown field, such as ``type``, is only a label and is accepted."""


def check_messages(messages: object) -> object:
    """Return ``messages``, for a validator. Raises InvalidRequest where one has a rejected field."""
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            for rule in MESSAGE_REJECTED:
                check_neutral(rule, message.get(rule.name), f"messages[{index}].{rule.name}")
    return messages


_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"assistant": (), "tool": ("content", "tool_call_id"), "function": ("content", "name")}
)
"""Of other roles, the content alone."""
_CALLS = ("tool_calls", "function_call")


class ChatMessage(ApiModel):
    """One message; fields that only label it are left out."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: TextContent = ""
    tool_calls: ListOf[EarlierCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    name: str | None = None
    """Of a function's message: which one gave it. Elsewhere it only labels."""
    reasoning_content: str | None = None
    """The reasoning of an earlier answer, which some chat templates repeat."""
    reasoning: str | None = None
    """The same, as vLLM and OpenRouter call it."""
    refusal: str | None = None
    """Text of an earlier answer that declined the request, in place of content."""
    prefix: bool | None = None
    """Of the last message: continue it in the answer. So DeepSeek and Mistral spell ``continue_final_message``."""
    partial: bool | None = None
    """The same, as Moonshot and Qwen spell it."""


class ChatRequest(SamplingFields, CacheFields, GrammarFields, ToolFields, RequestObject):
    """Body of a chat completion."""

    policy = CHAT

    model: ModelName = None
    messages: Annotated[ListOf[ChatMessage], Field(min_length=1), BeforeValidator(check_messages)] = Field(
        description="Roles: system, developer, user, assistant, tool, function. content is a string, an array of text "
        "parts, or null.",
    )
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = Field(
        default=None, description="Newer name of max_tokens; takes precedence over it."
    )
    n: AnswerCount = None
    logprobs: bool | None = Field(
        default=None, description="Return log-probabilities, computed before penalties and temperature are applied."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = Field(
        default=None, description="Number of most likely tokens to list at each position. Needs logprobs."
    )
    stream: Stream = None
    stream_options: StreamOptionsField = None
    timings: bool | None = Field(
        default=None, description="Extension (llama-server). Add the engine's times to the reply, or to the last chunk."
    )
    return_progress: bool | None = Field(
        default=None,
        description="Extension (llama-server). Stream chunks with prompt_progress before the first token: computed "
        "tokens of the prompt, queue position and expected wait.",
    )
    do_sample: bool | None = Field(
        default=None, description="Extension (Zhipu's SDKs). false: always select the most likely token."
    )
    continue_final_message: bool | None = Field(
        default=None,
        description="Extension. The answer continues the last message. prefix or partial in that message do the same.",
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="Extension. false is accepted only together with continue_final_message."
    )

    chat_template_kwargs: dict[str, object] | None = Field(
        default=None,
        description="Extension (vLLM). Variables for the chat template of the model's file, such as enable_thinking.",
    )

    @property
    def is_continued(self) -> bool:
        """Whether the answer continues the last message, the assistant's."""
        last = self.messages[-1]
        return bool(self.continue_final_message or last.prefix or last.partial)


_Chat = TypeVar("_Chat", bound=ChatRequest)


def parse_chat_request(body: Mapping[str, object]) -> ChatRequest:
    """Return the body as a checked request. Raises as ``parse_chat_as`` does."""
    return parse_chat_as(ChatRequest, body)


def parse_chat_as(kind: type[_Chat], body: Mapping[str, object]) -> _Chat:
    """Return the body as a checked ``kind`` of chat request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    request = parse(kind, body)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    _check_contents(body)
    return request


def _check_contents(body: Mapping[str, object]) -> None:
    """Reject a message without the fields of its role: null is empty on purpose, but an absent key is a mistake."""
    messages = body["messages"]
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        role = message["role"]
        for key in _NEEDED.get(role, ("content",)):
            if key not in message or (key != "content" and message[key] is None):
                path = f"messages[{index}].{key}"
                raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
        for key in _CALLS:
            if role != "assistant" and message.get(key):
                path = f"messages[{index}].{key}"
                raise InvalidRequest(f"{path}: only messages of the assistant may have calls, not {role}", param=path)


_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the messages; the older calls of functions, which have no ids, get some.

    Raises:
        PromptError: a function's message is the result of no call.
    """
    functions: dict[str, str] = {}
    translated = []
    for index, message in enumerate(messages):
        calls = [ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        if message.function_call is not None:
            functions[message.function_call.name] = f"function_call_{index}"
            called = message.function_call
            calls.append(ToolCall(functions[called.name], called.name, called.arguments))
        call_id = message.tool_call_id if message.role == "tool" else ""
        if message.role == "function":
            call_id = functions.get(message.name or "")
            if call_id is None:
                raise PromptError(f"messages[{index}].name: no message before it calls a function of that name")
        content = message.content or message.refusal or ""
        reasoning = message.reasoning_content or message.reasoning or ""
        translated.append(Message(_ROLES[message.role], content, tuple(calls), call_id or "", reasoning))
    return tuple(translated)


def to_params(body: ChatRequest, card: ModelCard) -> ChatParams:
    """Return the parameters of ``body`` for the model of ``card``.

    Raises:
        InvalidRequest: it contradicts itself.
        ToolError: a tool is not acceptable.
        PromptError: a function's message is the result of no call.
    """
    prompt = to_prompt_params(body)
    if body.is_continued:
        check_no_call_is_due(prompt.tools, "tool_choice")
    sampling = to_sampling(body, card)
    if body.do_sample is False:
        sampling = replace(sampling, temperature=0.0)
    if body.logprobs:
        sampling = replace(sampling, logprobs=body.top_logprobs or 0)
    answer = AnswerParams(
        sampling,
        token_limit(body.max_completion_tokens or body.max_tokens, body.min_tokens),
        grammar=to_grammar(body),
        stop=body.stop,
        n=body.n or 1,
        salts=body.salts,
    )
    return ChatParams(prompt, answer)


def to_prompt_params(body: ChatRequest) -> PromptParams:
    """Return the part of the parameters that the prompt is made from. Raises as ``to_params`` does."""
    tools = to_tool_config(body)
    _check_agreement(body, tools)
    return PromptParams(to_messages(body.messages), tools, body.is_continued, options=body.chat_template_kwargs or {})


def _check_agreement(body: ChatRequest, tools: ToolConfig | None) -> None:
    """Reject fields that contradict each other. Raises InvalidRequest."""
    if body.is_continued and body.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt exclude each other", param="continue_final_message"
        )
    if body.add_generation_prompt is False and not body.is_continued:
        raise InvalidRequest(
            "add_generation_prompt may be false only together with continue_final_message",
            param="add_generation_prompt",
        )
    if body.logprobs and tools is not None:
        raise InvalidRequest(
            "logprobs are only available for text: leave the tools out, or set tool_choice to none", param="logprobs"
        )
