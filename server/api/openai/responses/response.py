"""The JSON of a response, apart from its answer."""

import time

from glmserve.api.common.numbers import UNLIMITED
from glmserve.api.openai.responses.input_items import new_id
from glmserve.api.openai.responses.protocol import ResponsesRequest, StoredPrompt
from glmserve.api.openai.responses.response_types import ResponseObject, UsedPrompt
from glmserve.api.openai.responses.text_format import text_object
from glmserve.api.openai.responses.tools import choice_object, tools_object
from glmserve.engine.params import SamplingParams


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
        "temperature": params.temperature,
        "text": text_object(body.text),
        "tool_choice": choice_object(body),
        "tools": tools_object(body),
        "top_logprobs": body.top_logprobs or 0,
        "top_p": params.top_p,
        "truncation": body.truncation or "disabled",
    }


def _used(prompt: StoredPrompt | None) -> UsedPrompt | None:
    return None if prompt is None else {"id": prompt.id, "variables": prompt.variables, "version": None}
