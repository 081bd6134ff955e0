"""The body of a request to ``/v1/responses`` as it comes over the wire. Checked here, then translated once."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from glmserve.api.common.base import ApiModel, AtMost, ListOf, RequestObject, invalid, parse, text_parts
from glmserve.api.common.fields import ModelName, Stream
from glmserve.api.common.numbers import AsWhole, TokenLimit
from glmserve.api.common.sampling import CacheFields, SamplingFields
from glmserve.api.openai.responses.field_policy import RESPONSES
from glmserve.api.openai.responses.text_format import TextConfig
from glmserve.api.openai.responses.tools import FunctionFields
from glmserve.engine.params import MAX_LOGPROBS

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
        description="A string, or items: text messages, function calls and their outputs. Reasoning items are dropped, "
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
        asked = "message.output_text.logprobs" in (self.include or ()) or self.top_logprobs
        return self.top_logprobs or 0 if asked else None


def parse_responses_request(body: Mapping[str, object]) -> ResponsesRequest:
    """Return the body as a checked request; the items of ``input`` are checked where they are translated.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(ResponsesRequest, body)
