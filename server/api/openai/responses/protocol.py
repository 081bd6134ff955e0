"""The body of a request to ``/v1/responses``: its fields and checks, and the format of the answer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from glmserve.api.common.base import ApiModel, AtMost, ListOf, RequestObject, invalid, parse, text_parts
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.common.fields import AsWhole, CacheFields, ModelName, SamplingFields, Stream, TokenLimit
from glmserve.api.common.structured_output import Schema, schema_grammar
from glmserve.api.openai.responses.tools import FunctionFields
from glmserve.engine.params import MAX_LOGPROBS, Grammar
from glmserve.http.errors import InvalidRequest

RESPONSES = FieldPolicy(
    ignored=(
        Ignored("user"),
        Ignored("reasoning", "a model reasons as its chat template has it"),
        Ignored("context_management", "use truncation to shorten a conversation"),
        Ignored("client_metadata", "Codex sends it to describe itself"),
        Ignored("safety_identifier"),
        Ignored("service_tier"),
        Ignored("prompt_cache_retention"),
        Ignored("prompt_cache_options"),
        Ignored("max_tool_calls", "it limits built-in tools, and the server has none"),
        Ignored("stream_options", "events are never obfuscated"),
        Ignored("moderation"),
        Ignored("access_programs"),
        Ignored("background_options"),
        Ignored("image"),
        Ignored("priority", "callers take turns"),
        Ignored("rid"),
    ),
    rejected=(
        Rejected("background", (False,), "a response is generated only while its request is open"),
        Rejected("conversation", (), "use previous_response_id"),
        Rejected("personality"),
        Rejected("n", (1,)),
        Rejected("messages", (), "use input"),
        Rejected("max_tokens", (), "use max_output_tokens"),
        Rejected("max_completion_tokens", (), "use max_output_tokens"),
        Rejected("response_format", (), "use text.format"),
    ),
)


class TextFormat(RequestObject):
    """``text.format``. Unless it is ``strict``, parts of a schema that cannot be held are left out, and told."""

    path = "text.format"

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(RequestObject):
    """``text``. How wordy the answer is (``verbosity``) the model knows no way to vary."""

    path = "text"

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


def format_grammar(text: TextConfig | None) -> Grammar | None:
    """Return the grammar that is asked for, if one is.

    Raises:
        InvalidRequest: the schema is missing or too deep.
    """
    requested = None if text is None else text.format
    if requested is None or requested.type == "text":
        return None
    if requested.type == "json_object":
        return schema_grammar({"type": "object"}, "text.format")
    path = "text.format.schema"
    if requested.json_schema is None:
        raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    return schema_grammar(requested.json_schema, path, strict=bool(requested.strict))


def text_object(text: TextConfig | None) -> dict[str, object]:
    """Return the field as the response repeats it."""
    requested = None if text is None else text.format
    if requested is None:
        return {"format": {"type": "text"}}
    return {"format": requested.model_dump(by_alias=True, exclude_none=True)}


_VARIABLE_PARTS = ("input_text",)
_MAX_METADATA = 16
_MAX_VARIABLES = 1000
_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]
_INPUT_SCHEMA: JsonDict = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
_INCLUDABLE = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


def _variable(value: object) -> str:
    if isinstance(value, str):
        return value
    return "".join(text_parts([value], _VARIABLE_PARTS))


def _version(value: object) -> object:
    if value is not None:
        raise invalid("is not supported: a stored prompt has one version, which is its file")
    return value


class StoredPrompt(ApiModel):
    """A stored prompt and the values of its variables."""

    id: Annotated[str, Field(min_length=1)]
    variables: (
        Annotated[
            dict[str, Annotated[str, BeforeValidator(_variable, json_schema_input_type=str | dict[str, str])]],
            AtMost(_MAX_VARIABLES),
        ]
        | None
    ) = None
    version: Annotated[None, BeforeValidator(_version)] = None


class ResponsesRequest(SamplingFields, CacheFields, FunctionFields, RequestObject):
    """Body of a request for a response."""

    policy = RESPONSES

    model: ModelName = None
    input: Annotated[object, WithJsonSchema(_INPUT_SCHEMA)] = Field(
        default=None,
        description="A string, or items: text messages, function calls and their outputs. Reasoning may be an item, "
        "item references are rejected.",
    )
    instructions: str | None = Field(
        default=None, description="System message before the input. Later responses do not inherit it."
    )
    prompt: StoredPrompt | None = Field(
        default=None,
        description="id of a stored prompt, with a string for each of its variables. It precedes the input.",
    )
    previous_response_id: str | None = Field(
        default=None, description="id of a stored response. Its conversation precedes the input."
    )
    store: bool | None = Field(
        default=None, description="true (default): keep the response in memory until newer responses replace it."
    )
    max_output_tokens: TokenLimit = None
    text: TextConfig | None = Field(
        default=None,
        description="format: text, json_object or json_schema. With strict, the request fails if a part of the schema "
        "cannot be enforced. Can be combined with tools.",
    )
    truncation: Literal["auto", "disabled"] | None = Field(
        default=None,
        description="auto: drop the oldest items if the context is too short. disabled (default): status 400.",
    )
    stream: Stream = None
    metadata: Annotated[dict[_Key, _Value], AtMost(_MAX_METADATA)] | None = Field(
        default=None, description=f"At most {_MAX_METADATA} strings, which the response repeats."
    )
    include: ListOf[_INCLUDABLE] | None = Field(
        default=None,
        description="message.output_text.logprobs adds log-probabilities. The other values have no effect.",
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = Field(
        default=None, description="Number of most likely tokens to list at each position."
    )

    @property
    def logprobs(self) -> int | None:
        """Number of likely tokens listed at each position; None if not requested."""
        requested = "message.output_text.logprobs" in (self.include or ()) or self.top_logprobs
        return self.top_logprobs or 0 if requested else None


def parse_responses_request(body: Mapping[str, object]) -> ResponsesRequest:
    """Return the body as a checked request; the items of ``input`` are checked where they are translated.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(ResponsesRequest, without_fillers(body))


_FILLERS: Mapping[str, object] = MappingProxyType({"top_k": -1, "repetition_penalty": 1.0})


def without_fillers(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return ``body`` without the sampling that the gateway smg writes into each request, so that the model's holds.

    It adds ``priority: 0`` and two fields of vLLM and SGLang, which no client of OpenAI's sends, and with them a
    temperature of 1.0. With these three, a field that has its filler counts as not sent.
    """
    if body.get("priority") != 0 or not all(name in body for name in _FILLERS):
        return body
    fillers = {"temperature": 1.0, **_FILLERS}
    return {name: value for name, value in body.items() if name not in fillers or value != fillers[name]}
