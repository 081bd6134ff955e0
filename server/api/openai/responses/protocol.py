"""The body of a request to ``/v1/responses`` as it comes over the wire. Checked here, then translated once."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from glmserve.api.common.base import ApiModel, ListOf, at_most, invalid, parse, text_parts
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
            at_most(_MAX_VARIABLES),
        ]
        | None
    ) = None
    version: Annotated[None, BeforeValidator(_version)] = None


class ResponsesRequest(SamplingFields, CacheFields, FunctionFields):
    """The supported fields; ``field_policy.py`` has the policy of all others."""

    model_config = ConfigDict(json_schema_extra=RESPONSES.complete)

    model: str | None = None
    input: Annotated[object, WithJsonSchema(_INPUT_SCHEMA)] = None
    instructions: str | None = None
    prompt: StoredPrompt | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    max_output_tokens: TokenLimit = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    metadata: Annotated[dict[_Key, _Value], at_most(_MAX_METADATA)] | None = None
    include: ListOf[_INCLUDABLE] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = None

    @property
    def logprobs(self) -> int | None:
        """How many likely tokens are to be listed at each place; None where nothing is said of them."""
        asked = "message.output_text.logprobs" in (self.include or ()) or self.top_logprobs
        return self.top_logprobs or 0 if asked else None


def parse_responses_request(body: Mapping[str, object]) -> ResponsesRequest:
    """Return the body as a checked request; the items of ``input`` are checked where they are translated.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    RESPONSES.check(body)
    return parse(ResponsesRequest, body)
