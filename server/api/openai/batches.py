"""/v1/batches: files of requests that are answered in turns that no other request needs."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from typing_extensions import TypedDict

from glmserve.api.common.base import AtMost, RequestObject, parse
from glmserve.api.openai.files import ExpiresAfter, listed, page_of
from glmserve.batches.records import DAY_S, Batch, BatchStatus
from glmserve.batches.service import BatchService
from glmserve.http.errors import (
    BatchConflict,
    BatchesUnavailable,
    BatchNotFound,
    InvalidRequest,
    StoredFileNotFound,
    TooManyBatches,
)
from glmserve.http.offload import read_request
from glmserve.http.openapi import Tag, documented
from glmserve.http.request_record import current_request

_WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
LONGEST_WINDOW_S = 30 * DAY_S
_USUAL_LISTED, _MOST_LISTED = 20, 100
_MOST_METADATA = 16
_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class BatchRequest(RequestObject):
    """Body of a request for a batch."""

    input_file_id: str = Field(description="Id of an uploaded file: JSONL, one request a line.")
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"] = Field(
        description="Address that all lines are for."
    )
    completion_window: str = Field(
        description="Time for the whole batch: `24h`. Extension: any number of `s`, `m`, `h` or `d`, at most 30 days."
    )
    metadata: Annotated[dict[_Key, _Value], AtMost(_MOST_METADATA)] | None = Field(
        default=None, description=f"At most {_MOST_METADATA} strings, which the batch repeats."
    )
    output_expires_after: ExpiresAfter | None = Field(
        default=None, description="Lifetime of the output files. Default: `--batch-file-days`."
    )


class BatchErrorObject(TypedDict):
    """A fault of the input."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(TypedDict):
    """Faults of the input."""

    object: Literal["list"]
    data: list[BatchErrorObject]


class RequestCounts(TypedDict):
    """Lines of a batch."""

    total: int
    completed: int
    failed: int


class CachedTokens(TypedDict):
    """Tokens found in the prefix cache."""

    cached_tokens: int


class ReasoningTokens(TypedDict):
    """Tokens of reasoning, which are not counted apart."""

    reasoning_tokens: int


class BatchUsage(TypedDict):
    """Tokens of all lines that were answered."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class BatchObject(TypedDict):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(TypedDict):
    """Batches of a caller, the newest first."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str
    last_id: str
    has_more: bool


_ONE = "/v1/batches/{batch_id}"
_STORE = (BatchesUnavailable,)
_CREATE = (InvalidRequest, StoredFileNotFound, TooManyBatches, *_STORE)


def parse_batch_request(body: Mapping[str, object]) -> BatchRequest:
    """Return the body as a checked request. Raises InvalidRequest."""
    return parse(BatchRequest, body)


def window_seconds(window: str) -> int:
    """Return a window in seconds. Raises InvalidRequest."""
    found = _WINDOW.fullmatch(window)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise InvalidRequest(
            "completion_window must be 24h, or another time of at most 30 days, such as 90m or 7d",
            param="completion_window",
        )
    return seconds


def create_router(service: BatchService) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/v1/batches", **documented(BatchObject, BatchRequest, errors=_CREATE, tag=Tag.BATCHES))
    async def create_batch(request: Request) -> Response:
        """Answer the requests of a file when there is time."""
        body = await read_request(request, parse_batch_request)
        made = await service.create(_new_batch(body, service))
        return JSONResponse(batch_object(made))

    @router.get("/v1/batches", **documented(BatchList, errors=(InvalidRequest, *_STORE), tag=Tag.BATCHES))
    async def list_batches(request: Request) -> Response:
        """List the batches of the caller, the newest first."""
        page, owner = page_of(request.query_params, _USUAL_LISTED, _MOST_LISTED), current_request().key
        found = await service.do(lambda store: store.batches(owner, page))
        return JSONResponse(listed([batch_object(batch) for batch in found], page))

    @router.get(_ONE, **documented(BatchObject, errors=(BatchNotFound, *_STORE), tag=Tag.BATCHES))
    async def retrieve_batch(batch_id: str) -> Response:
        """Return a batch, as far as it has come."""
        owner = current_request().key
        return JSONResponse(batch_object(await service.do(lambda store: store.batch(owner, batch_id))))

    @router.post(
        f"{_ONE}/cancel", **documented(BatchObject, errors=(BatchNotFound, BatchConflict, *_STORE), tag=Tag.BATCHES)
    )
    async def cancel_batch(batch_id: str) -> Response:
        """Stop a batch; its answers so far stay."""
        return JSONResponse(batch_object(await service.cancel(current_request().key, batch_id)))

    return router


def _new_batch(body: BatchRequest, service: BatchService) -> Batch:
    lifetime = body.output_expires_after
    return Batch(
        number=0,
        id="",
        owner=current_request().key,
        endpoint=body.endpoint,
        input_id=body.input_file_id,
        window=body.completion_window,
        created=service.now,
        expires=service.now + window_seconds(body.completion_window),
        file_seconds=service.file_seconds if lifetime is None else lifetime.seconds,
        metadata=body.metadata,
    )


def batch_object(batch: Batch) -> BatchObject:
    """Return a batch as callers get it."""
    times = batch.times
    problems: list[BatchErrorObject] = [
        {"code": one.code, "message": one.message, "line": one.line, "param": one.param} for one in batch.problems
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_id,
        "completion_window": batch.window,
        "status": batch.status.value,
        "output_file_id": batch.output_id,
        "error_file_id": batch.error_id,
        "created_at": batch.created,
        "in_progress_at": times.get(BatchStatus.IN_PROGRESS),
        "expires_at": batch.expires,
        "finalizing_at": times.get(BatchStatus.FINALIZING),
        "completed_at": times.get(BatchStatus.COMPLETED),
        "failed_at": times.get(BatchStatus.FAILED),
        "expired_at": times.get(BatchStatus.EXPIRED),
        "cancelling_at": times.get(BatchStatus.CANCELLING),
        "cancelled_at": times.get(BatchStatus.CANCELLED),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": _usage(batch),
        "metadata": dict(batch.metadata) if batch.metadata is not None else None,
    }


def _usage(batch: Batch) -> BatchUsage:
    usage = batch.usage
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }
