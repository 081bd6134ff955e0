"""A conversation as a request to an upstream's chat API, and its chunks as pieces of an answer. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import CallDelta, NewId, Tool, ToolChoice, ToolConfig
from glmserve.engine.messages import FinishReason
from glmserve.engine.params import MAX_TOKENS, Grammar, GrammarKind, SamplingParams
from glmserve.http.errors import UpstreamFailed
from glmserve.models.catalog import SamplingDefaults
from glmserve.upstream.replies import Json, choices_in

CHAT_PATH = "/chat/completions"
"""Below the address of an API."""
_NO_LOGPROB = -9999.0

UNSET = SamplingDefaults(temperature=1.9999999, top_p=0.9999999, top_k=2**31 - 1, repetition_penalty=1.9999999)
"""Values that stand for "not set": the upstream has defaults of its own, and no caller writes these numbers."""

_NO_NUMBERS = frozenset({"logprobs", "prompt_logprobs", "logit_bias", "grammar", "progress_seconds"})
_NOT_SET: Mapping[str, object] = MappingProxyType(
    {one.name: one.default for one in fields(SamplingParams) if one.name not in _NO_NUMBERS}
    | {one.name: getattr(UNSET, one.name) for one in fields(SamplingDefaults)}
    | {"max_tokens": MAX_TOKENS}
)
"""By field, the value that is left out of a request."""


@dataclass(frozen=True, slots=True)
class RemotePrompt:
    """A conversation that the upstream makes a prompt of."""

    messages: tuple[Message, ...]
    continued: bool = False
    """The answer continues the last message."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Variables for the chat template."""


def chat_body(
    prompt: RemotePrompt,
    params: SamplingParams,
    stop: Sequence[str],
    tools: ToolConfig | None,
    model: str,
) -> dict[str, object]:
    """Return the body of a streamed chat completion with one answer; ``model`` is the upstream's name of it."""
    body: dict[str, object] = {
        "model": model,
        "messages": list(map(_message, prompt.messages)),
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(params),
    }
    if stop:
        body["stop"] = list(stop)
    if tools is not None:
        body |= _tools(tools)
    if params.grammar is not None:
        body |= _format(params.grammar)
    if prompt.continued:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if prompt.options:
        body["chat_template_kwargs"] = dict(prompt.options)
    return body


def _message(message: Message) -> Json:
    told: dict[str, object] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        told["tool_call_id"] = message.tool_call_id
    return told


def _sampling(params: SamplingParams) -> dict[str, object]:
    """Return the fields that the caller, the task or the contract has set; the names are vLLM's."""
    given = {name: getattr(params, name) for name, value in _NOT_SET.items() if getattr(params, name) != value}
    if given.get("top_k") == 0:
        given["top_k"] = -1
    if params.logprobs is not None:
        given |= {"logprobs": True, "top_logprobs": params.logprobs}
    if params.logit_bias:
        given["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    return given


def _tools(config: ToolConfig) -> Json:
    choice: object = config.choice.value
    callable_tools = config.callable
    if config.choice is ToolChoice.REQUIRED and len(callable_tools) == 1:
        choice = {"type": "function", "function": {"name": callable_tools[0].name}}
    fields = {"tools": list(map(_tool, callable_tools)), "tool_choice": choice}
    return fields if config.parallel else {**fields, "parallel_tool_calls": False}


def _tool(tool: Tool) -> Json:
    function = tool.definition() | ({"strict": True} if tool.strict else {})
    return {"type": "function", "function": function}


def _format(grammar: Grammar) -> Json:
    """Return the field for a grammar: OpenAI's for a schema, vLLM's for the others."""
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        schema = {"name": "answer", "schema": json.loads(grammar.source)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    kind = "regex" if grammar.kind is GrammarKind.REGEX else "grammar"
    return {"structured_outputs": {kind: grammar.source}}


@dataclass(frozen=True, slots=True)
class RemoteToken:
    """A token with its log-probability."""

    piece: bytes
    logprob: float
    top: "tuple[RemoteToken, ...]" = ()


@dataclass(frozen=True, slots=True)
class RemotePiece:
    """A piece of an answer."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    tokens: tuple[RemoteToken, ...] = ()
    finish_reason: FinishReason | None = None
    stop: str | None = None
    """The stop string that ended it, where the upstream says so."""


class ChatReader:
    """Chunks of one answer in, pieces out."""

    def __init__(self, new_id: NewId) -> None:
        """``new_id`` names calls that come without a name."""
        self._new_id = new_id
        self._calls: dict[object, int] = {}

    def feed(self, chunk: Json) -> RemotePiece:
        """Return the piece in a chunk. Raises UpstreamFailed where the upstream has given the answer up."""
        choice = next((one for one in choices_in(chunk) if one.get("index", 0) == 0), None)
        if choice is None:
            return RemotePiece()
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        return RemotePiece(
            _text(delta.get("content")),
            _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
            tuple(call for one in _list(delta.get("tool_calls")) for call in self._call(one)),
            tuple(map(_token, _list(_dict(choice.get("logprobs")).get("content")))),
            _reason(choice.get("finish_reason")),
            _text(choice.get("stop_reason")) or None,
        )

    def _call(self, piece: Json) -> list[CallDelta]:
        """Return the pieces of a call: its beginning apart from its arguments, and once."""
        function = _dict(piece.get("function"))
        key, name, arguments = piece.get("index", 0), _text(function.get("name")), _text(function.get("arguments"))
        deltas = []
        if key not in self._calls:
            if not name:
                return []  # arguments of a call that has not begun
            self._calls[key] = len(self._calls)
            deltas.append(CallDelta(self._calls[key], "", _text(piece.get("id")) or self._new_id(), name))
        return [*deltas, CallDelta(self._calls[key], arguments)] if arguments else deltas


def _reason(value: object) -> FinishReason | None:
    if value == "abort":
        raise UpstreamFailed("the server that runs the model has aborted the answer")
    if value is None:
        return None
    return FinishReason.LENGTH if value == "length" else FinishReason.STOP


def _token(entry: Json) -> RemoteToken:
    return replace(_bare_token(entry), top=tuple(map(_bare_token, _list(entry.get("top_logprobs")))))


def _bare_token(entry: Json) -> RemoteToken:
    codes = entry.get("bytes")
    listed = codes if isinstance(codes, list) and all(type(code) is int and 0 <= code < 256 for code in codes) else None
    piece = _text(entry.get("token")).encode("utf-8", "replace") if listed is None else bytes(listed)
    value = entry.get("logprob")
    return RemoteToken(piece, float(value) if isinstance(value, int | float) else _NO_LOGPROB)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
