"""The response object, the types of its items and events, and pages of items; see ``stream.py`` for the answer."""

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.api.common.fields import UNLIMITED
from glmserve.api.openai.responses.conversation import new_id
from glmserve.api.openai.responses.protocol import ResponsesRequest, StoredPrompt, text_object
from glmserve.api.openai.responses.tools import choice_object, tools_object
from glmserve.engine.params import SamplingParams
from glmserve.http.errors import InvalidRequest
from glmserve.upstream.chat import UNSET

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


class ReasoningText(TypedDict):
    """Reasoning that the model wrote."""

    type: Literal["reasoning_text"]
    text: str


class ResponseReasoning(TypedDict):
    """The reasoning of the model before its text."""

    id: str
    type: Literal["reasoning"]
    status: Status
    summary: list[object]
    content: list[ReasoningText]


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
    output: list[ResponseReasoning | ResponseMessage | ResponseCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt: UsedPrompt | None
    reasoning: dict[str, None]
    service_tier: Literal["default"]
    store: bool
    temperature: float | None
    text: dict[str, object]
    tool_choice: str | dict[str, object]
    tools: list[dict[str, object]]
    top_logprobs: int
    top_p: float | None
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


def response_head(body: ResponsesRequest, model: str, params: SamplingParams) -> ResponseObject:
    """Return the response object before the answer: mostly the request's fields with defaults filled in."""
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": None if body.max_output_tokens == UNLIMITED else body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt": _used(body.prompt),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": None if params.temperature == UNSET.temperature else params.temperature,
        "text": text_object(body.text),
        "tool_choice": choice_object(body),
        "tools": tools_object(body),
        "top_logprobs": body.top_logprobs or 0,
        "top_p": None if params.top_p == UNSET.top_p else params.top_p,
        "truncation": body.truncation or "disabled",
    }


def _used(prompt: StoredPrompt | None) -> UsedPrompt | None:
    return None if prompt is None else {"id": prompt.id, "variables": prompt.variables, "version": None}


_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


def page(items: Sequence[dict[str, object]], query: Mapping[str, str]) -> InputItems:
    """Return the items that ``query`` asks for: ``order`` (the latest first by default), ``after`` an id, ``limit``.

    Raises:
        InvalidRequest: one of these has a wrong value, or no item is called ``after``.
    """
    order, limit = query.get("order", "desc"), query.get("limit", str(_DEFAULT_LIMIT))
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be 'asc' or 'desc'", param="order")
    if not (limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= _MAX_LIMIT):
        raise InvalidRequest(f"limit must be a number from 1 to {_MAX_LIMIT}", param="limit")
    ordered = list(items) if order == "asc" else list(reversed(items))
    ids = [item["id"] for item in ordered]
    after = query.get("after")
    if after is not None and after not in ids:
        raise InvalidRequest("after must be the id of one of the items", param="after")
    start = 0 if after is None else ids.index(after) + 1
    shown, rest = ordered[start : start + int(limit)], ordered[start + int(limit) :]
    ends = [str(item["id"]) for item in shown] or [""]
    return {"object": "list", "data": shown, "first_id": ends[0], "last_id": ends[-1], "has_more": bool(rest)}
