"""Types of the replies, checked by mypy and published in ``/openapi.json``."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict

Status = Literal["in_progress", "completed", "incomplete"]


class ResponseText(TypedDict):
    """Text that the model generated."""

    type: Literal["output_text"]
    text: str
    annotations: list[object]
    logprobs: list[object]


class ResponseMessage(TypedDict):
    """A message of the model."""

    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[ResponseText]


class ResponseCall(TypedDict):
    """A function that the model calls."""

    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


class ResponseFault(TypedDict):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class ResponseCut(TypedDict):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class CachedInput(TypedDict):
    """Of the tokens of the prompt."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningOutput(TypedDict):
    """Of the tokens of the answer."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Token counts of a response."""

    input_tokens: int
    input_tokens_details: CachedInput
    output_tokens: int
    output_tokens_details: ReasoningOutput
    total_tokens: int


class UsedPrompt(TypedDict):
    """The stored prompt that a response was made with."""

    id: str
    variables: dict[str, str] | None
    version: None


class ResponseObject(TypedDict):
    """A response; a streamed one is known from its beginning."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: ResponseFault | None
    incomplete_details: ResponseCut | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    output: list[ResponseMessage | ResponseCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt: UsedPrompt | None
    reasoning: dict[str, None]
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: dict[str, object]
    tool_choice: str | dict[str, object]
    tools: list[dict[str, object]]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: NotRequired[ResponseUsage]


class ResponseEvent(TypedDict):
    """The data of an event: these two fields, and the fields of its ``type``."""

    type: str
    sequence_number: int


class ResponseDeleted(TypedDict):
    """The reply to a deletion."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(TypedDict):
    """A page of the items that a response was made from."""

    object: Literal["list"]
    data: list[dict[str, object]]
    first_id: str
    last_id: str
    has_more: bool


class InputTokens(TypedDict):
    """How many tokens a prompt has."""

    object: Literal["response.input_tokens"]
    input_tokens: int
