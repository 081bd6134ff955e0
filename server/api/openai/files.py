"""/v1/files: the inputs and outputs of batches."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from glmserve.api.common.base import ApiModel, RequestObject, parse
from glmserve.batches.records import Purpose, StoredFile
from glmserve.batches.service import BatchService, Upload
from glmserve.batches.store import Page
from glmserve.http import multipart
from glmserve.http.errors import (
    BatchConflict,
    BatchesUnavailable,
    ClientDisconnected,
    InvalidRequest,
    StorageFull,
    StoredFileNotFound,
    TooManyBatches,
    shown,
)
from glmserve.http.openapi import Tag, documented
from glmserve.http.request_record import current_request

SHORTEST_S, LONGEST_S = 3600, 30 * 24 * 3600
"""OpenAI's bounds of the lifetime of a file."""
_MOST_LISTED = 10_000
_MOST_NAME = 255
_STRANGE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ExpiresAfter(RequestObject):
    """When a file goes."""

    anchor: Literal["created_at"] = Field(description="Only `created_at`.")
    seconds: Annotated[int, Field(ge=SHORTEST_S, le=LONGEST_S)] = Field(description="Seconds after its creation.")


class FileForm(ApiModel):
    """Form of an upload."""

    file: str = Field(description="The file: JSONL, one request a line.", json_schema_extra={"format": "binary"})
    purpose: Literal["batch"] = Field(description="Only `batch`: files are inputs of batches.")
    expires_after: ExpiresAfter | None = Field(
        default=None, description="Lifetime of the file. Default: `--batch-file-days`."
    )


class FileObject(TypedDict):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(TypedDict):
    """Files of a caller."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str
    last_id: str
    has_more: bool


class FileDeleted(TypedDict):
    """A file that was deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


PATH = "/v1/files"
_ONE = f"{PATH}/{{file_id}}"
_STORE = (BatchesUnavailable,)
_UPLOAD = (InvalidRequest, StorageFull, TooManyBatches, *_STORE)


def create_router(service: BatchService) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post(
        PATH,
        **documented(FileObject, FileForm, errors=_UPLOAD, tag=Tag.BATCHES, body_type="multipart/form-data"),
    )
    async def upload_file(request: Request) -> Response:
        """Store a file."""
        return JSONResponse(file_object(await _received(service, request)))

    @router.get(PATH, **documented(FileList, errors=(InvalidRequest, *_STORE), tag=Tag.BATCHES))
    async def list_files(request: Request) -> Response:
        """List the files of the caller."""
        query = request.query_params
        page, purpose = page_of(query, _MOST_LISTED, _MOST_LISTED), _purpose(query.get("purpose"))
        owner = _owner()
        found = await service.do(lambda store: store.files(owner, purpose, page))
        return JSONResponse(listed([file_object(file) for file in found], page))

    @router.get(_ONE, **documented(FileObject, errors=(StoredFileNotFound, *_STORE), tag=Tag.BATCHES))
    async def retrieve_file(file_id: str) -> Response:
        """Return the facts of a file."""
        owner = _owner()
        return JSONResponse(file_object(await service.do(lambda store: store.file(owner, file_id))))

    @router.delete(
        _ONE, **documented(FileDeleted, errors=(StoredFileNotFound, BatchConflict, *_STORE), tag=Tag.BATCHES)
    )
    async def delete_file(file_id: str) -> Response:
        """Delete a file."""
        owner = _owner()
        await service.do(lambda store: store.delete_file(owner, file_id))
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    @router.get(
        f"{_ONE}/content",
        **documented(str, errors=(StoredFileNotFound, *_STORE), tag=Tag.BATCHES, media_type="application/octet-stream"),
    )
    async def download_file(file_id: str) -> Response:
        """Return the content of a file."""
        owner = _owner()
        file = await service.do(lambda store: store.file(owner, file_id))
        return StreamingResponse(_sent(service, file), headers=_headers(file), media_type="application/octet-stream")

    return router


async def _sent(service: BatchService, file: StoredFile) -> AsyncIterator[bytes]:
    async for data in service.content(file):
        yield data


def _headers(file: StoredFile) -> Mapping[str, str]:
    # A browser that is led here must not run what a caller has stored.
    return {
        "Content-Length": str(file.size),
        "Content-Disposition": f'attachment; filename="{file.id}.jsonl"',
        "X-Content-Type-Options": "nosniff",
    }


async def _received(service: BatchService, request: Request) -> StoredFile:
    """Return the file of a form, stored. Raises InvalidRequest; nothing is kept then."""
    parser = multipart.FormParser(multipart.boundary_of(request.headers.get("content-type", "")))
    owner, upload, name, fields = current_request().key, None, "", dict[str, str]()
    try:
        async for chunk in request.stream():
            for event in parser.feed(chunk):
                if isinstance(event, multipart.FileData) and upload is not None:
                    await upload.add(event.data)
                elif isinstance(event, multipart.FileStart):
                    if event.name != "file" or upload is not None:
                        raise InvalidRequest("the form must have one file, in the field file", param="file")
                    name, upload = event.filename, await Upload.begin(service, owner)
                elif isinstance(event, multipart.Field):
                    fields[event.name] = event.value
        if upload is None or not parser.is_complete:
            raise InvalidRequest("file is required" if upload is None else "the form has no end", param="file")
        return await upload.finish(plain_name(name), _seconds(fields, service))
    except ClientDisconnect:
        await _drop(upload)
        raise ClientDisconnected from None
    except BaseException:
        await _drop(upload)
        raise


async def _drop(upload: Upload | None) -> None:
    if upload is not None:
        await upload.drop()


def _seconds(fields: Mapping[str, str], service: BatchService) -> int:
    """Check the fields beside the file; return the lifetime of the file in seconds. Raises InvalidRequest."""
    if "purpose" not in fields:
        raise InvalidRequest("purpose is required", param="purpose", code="missing_required_parameter")
    if fields["purpose"] != Purpose.INPUT.value:
        raise InvalidRequest(
            f"purpose is {shown(fields['purpose'])}; this server keeps files for batches only: batch", param="purpose"
        )
    given = {name[14:-1]: value for name, value in fields.items() if re.fullmatch(r"expires_after\[\w+\]", name)}
    if "expires_after" in fields:
        given = _json_object(fields["expires_after"])
    if not given:
        return service.file_seconds
    seconds = given.get("seconds", "")
    value = (
        {**given, "seconds": int(seconds)}
        if isinstance(seconds, str) and re.fullmatch("[0-9]{1,9}", seconds)
        else given
    )
    return parse(ExpiresAfter, value, "expires_after").seconds


def _json_object(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("expires_after must be an object", param="expires_after")
    return value


def plain_name(name: str) -> str:
    """Return the name of an uploaded file without folders and control characters. It is only shown, never opened."""
    last = _STRANGE.sub("", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last[:_MOST_NAME] or "file.jsonl"


def file_object(file: StoredFile) -> FileObject:
    """Return a file as callers get it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created,
        "expires_at": file.expires,
        "filename": file.name,
        "purpose": file.purpose.value,
        "status": "processed",
    }


def page_of(query: Mapping[str, str], usual: int, most: int) -> Page:
    """Return the part of a list that ``query`` asks for. Raises InvalidRequest."""
    order, limit = query.get("order", "desc"), query.get("limit", str(usual))
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be 'asc' or 'desc'", param="order")
    if not (limit.isdecimal() and len(limit) < 6 and 1 <= int(limit) <= most):
        raise InvalidRequest(f"limit must be a number from 1 to {most}", param="limit")
    return Page(int(limit), query.get("after", ""), ascending=order == "asc")


def listed(items: Sequence[Mapping[str, object]], page: Page) -> dict[str, object]:
    """Return a part of a list; ``items`` has one more than belongs to it where there are more."""
    data = items[: page.limit]
    ends = [str(item["id"]) for item in data] or [""]
    return {
        "object": "list",
        "data": data,
        "first_id": ends[0],
        "last_id": ends[-1],
        "has_more": len(items) > page.limit,
    }


def _purpose(given: str | None) -> Purpose | None:
    if given is None:
        return None
    try:
        return Purpose(given)
    except ValueError:
        known = " or ".join(one.value for one in Purpose)
        raise InvalidRequest(f"purpose must be {known}", param="purpose") from None


def _owner() -> str:
    return current_request().key
