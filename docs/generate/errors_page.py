"""``docs/errors.md``, made from the table of error replies and from the codes that single checks set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import click

from glmserve.http.error_replies import table

_HEAD = """\
# Error codes

<!-- Made by `make docs` from server/http/error_replies.py. -->

An error reply has a status, a code, a message, and `param`, the path of the field to blame. The message says what
happened and what to do. Programs should compare `code`: messages may change, codes do not.

```json
{"error": {"message": "temperature: must be greater than or equal to 0", "type": "invalid_request_error",
           "param": "temperature", "code": "invalid_value"}}
```

`/v1/messages` has Anthropic's format, without a code except for `thread_not_found` (in `details`): its `type` follows
from the status. `/chatglm` and `/baichuan`
have the status and the message. A stream that has begun ends with an error event of the same content.

| status | code | meaning | what to do |
|---|---|---|---|
"""
_FOOT = """
For 429, `Retry-After` is computed for each request.
"""


@dataclass(frozen=True, slots=True)
class Advice:
    """Meaning of a code, and the action of the caller or the operator."""

    meaning: str
    action: str


ADVICE: Mapping[str, Advice] = MappingProxyType(
    {
        "invalid_value": Advice("A field has a wrong type or value.", "Correct the field in `param`."),
        "invalid_json": Advice("The body is not a JSON object in UTF-8.", "Send valid JSON."),
        "missing_required_parameter": Advice("A required field is missing.", "Add the field in `param`."),
        "unknown_parameter": Advice(
            "The field does not exist, and the server runs with `--strict-fields`.", "Leave the field out."
        ),
        "unsupported_parameter": Advice(
            "The field exists in the API, but this server does not support it.",
            "Leave the field out; [fields.md](fields.md) lists all.",
        ),
        "unsupported_grammar": Advice(
            "A schema, expression or grammar cannot be compiled, or is too large.",
            "Simplify it; see [structured-output.md](structured-output.md).",
        ),
        "context_length_exceeded": Advice(
            "The prompt leaves no space for an answer in the context.", "Shorten the prompt."
        ),
        "wrong_model_kind": Advice(
            "The model generates text and the endpoint needs vectors, or the reverse.",
            "Use one of the models in the message.",
        ),
        "previous_response_not_found": Advice(
            "`previous_response_id` is not stored, or not for this key.", "Send the whole conversation again."
        ),
        "malformed_request": Advice("The bytes are not a valid HTTP/1.1 request.", "Check the client and its proxy."),
        "invalid_api_key": Advice("The API key is missing or wrong.", "Send `Authorization: Bearer KEY`."),
        "cross_site_request": Advice(
            "A page of another site sent the request, and the server has no keys.",
            "Set `--cors-origin`, or use API keys.",
        ),
        "host_not_allowed": Advice(
            "The `Host` header is not a name of this server.", "Set `--allowed-host`, for example behind a proxy."
        ),
        "model_not_found": Advice("No served model has this name.", "Use a name of `GET /v1/models`."),
        "not_found": Advice("The path does not exist.", "Use a path of `GET /openapi.json`."),
        "route_not_served": Advice("No served model is of the kind for this endpoint.", "Serve such a model."),
        "prompt_not_found": Advice("No stored prompt has this id.", "Use one of the ids in the message."),
        "response_not_found": Advice(
            "The response was never stored, was deleted, or was replaced by newer ones.",
            "Raise `--response-store-max`, or send the conversation again.",
        ),
        "file_not_found": Advice(
            "No file has this id, or not for this key.", "Upload the file; see [batches.md](batches.md)."
        ),
        "batch_not_found": Advice("No batch has this id, or not for this key.", "List the batches of this key."),
        "batch_conflict": Advice(
            "The batch has ended, or the file is the input of one that has not.", "Look at the state of the batch."
        ),
        "storage_full": Advice(
            "Files and results of batches take all the space of `--batch-store-mb`.",
            "Delete files, or raise the limit.",
        ),
        "too_many_batches": Advice(
            "The key has as many files or unfinished batches as it may.", "Delete files, or wait for a batch to end."
        ),
        "batches_unavailable": Advice(
            "The folder of batches cannot be used, or another server uses it.",
            "Read the log; set another `--batch-dir`.",
        ),
        "thread_not_found": Advice(
            "A thread of Anthropic's API is continued; the server stores none.", "Send the whole conversation."
        ),
        "method_not_allowed": Advice("The path does not accept this method.", "Use a method of the `Allow` header."),
        "reader_too_slow": Advice(
            "The client read nothing, and too many outputs waited for it.", "Read the stream as it arrives."
        ),
        "body_too_slow": Advice("The body did not arrive in time.", "Send the body without pauses."),
        "request_too_large": Advice("The body is larger than `--max-body-mb`.", "Send less, or raise the limit."),
        "unsupported_content_encoding": Advice("The body is compressed.", "Send it uncompressed."),
        "rate_limit_exceeded": Advice("The rate limit of the key is used up.", "Retry after `Retry-After`."),
        "queue_full": Advice("The queue of the engine is full.", "Retry after `Retry-After`."),
        "headers_too_large": Advice("The request has too many or too long headers.", "Send fewer headers."),
        "client_closed_request": Advice(
            "The client disconnected before the answer was complete; only the log and metrics have this code.", "–"
        ),
        "internal_error": Advice("The server has a fault; the log has the details.", "Report it with the log."),
        "decode_failed": Advice(
            "llama.cpp rejected this request; others continued.", "Do not retry it unchanged; report it with the log."
        ),
        "too_many_connections": Advice("All `--max-connections` have requests in progress.", "Retry."),
        "server_busy": Advice("Too many large bodies wait to be parsed.", "Retry."),
        "engine_died": Advice("The engine process ended and is being replaced.", "Retry."),
        "engine_unavailable": Advice(
            "The model is loading, restarting or stopping, or has failed.", "Retry; `GET /health` has the reason."
        ),
        "model_load_failed": Advice("The model could not be loaded.", "Read the log; correct the file or settings."),
        "upstream_rejected": Advice(
            "The server that runs the model rejected the request, with this status and message.",
            "Correct the request; 429: retry after `Retry-After`.",
        ),
        "tokenizer_not_here": Advice(
            "The tokens of a model behind an upstream cannot be told here.", "Ask the server that runs it."
        ),
        "upstream_failed": Advice(
            "The server that runs the model failed, rejects this server's key, or sent no valid reply.",
            "Read the message and that server's log.",
        ),
        "upstream_died": Advice("The server that runs the model ended its reply before the end.", "Retry."),
        "upstream_unavailable": Advice(
            "The server that runs the model cannot be reached.", "Retry; `GET /health` has the reason."
        ),
        "upstream_timeout": Advice(
            "The server that runs the model sent nothing for `upstream_timeout`.",
            "Ask for a shorter answer, or stream.",
        ),
        "request_timeout": Advice("The request took longer than `--request-timeout`.", "Ask for a shorter answer."),
    }
)
"""By code."""

SET_BY_CHECKS: Mapping[str, int] = MappingProxyType(
    {
        "invalid_json": 400,
        "missing_required_parameter": 400,
        "unknown_parameter": 400,
        "unsupported_parameter": 400,
        "method_not_allowed": 405,
    }
)
"""Codes, with their status, that have no row of their own in the table."""


def errors_page() -> str:
    """Return the page."""
    return f"{_HEAD}{''.join(_rows())}{_FOOT}"


def _rows() -> Iterable[str]:
    retries = {code: retry_after for _, code, retry_after in table().values()}
    rows = {(status, code) for status, code, _ in table().values()} | {(s, code) for code, s in SET_BY_CHECKS.items()}
    for status, code in sorted(rows):
        advice, seconds = ADVICE[code], retries.get(code)
        action = f"{advice.action} `Retry-After`: {seconds} s." if seconds else advice.action
        yield f"| {status} | `{code}` | {advice.meaning} | {action} |\n"


if __name__ == "__main__":
    click.echo(errors_page(), nl=False)
