"""``/openapi.json``: documentation of each route, made from the types that it reads and writes.

Bodies are read by ``http.json_body`` and replies are plain dictionaries, so FastAPI itself sees neither. A route names
both in one line, and nothing is written by hand::

    @router.post("/v1/embeddings", **documented(EmbeddingReply, EmbeddingRequest))

- ``reply`` and ``body`` are pydantic models or ``typing_extensions.TypedDict`` classes. Have the function that makes
  a reply return the TypedDict: mypy then holds the documentation to the code. A field that is checked by a
  ``BeforeValidator`` says what it takes with ``json_schema_input_type=``.
- ``events=ChatChunk``: the route can also stream, and this is the data of an event (a union where they differ).
- ``errors``: the kinds of ``http.errors`` that it may raise, from which the statuses come. By default those of a
  route that generates; ``errors=()`` leaves what every route may say: a wrong key, a fault of the server, and so on.
- ``failure``: the shape of its errors, where that is not OpenAI's.
- ``tag``: what kind of route it is. Requests to those of ``GENERATION`` are counted as such in ``/metrics``.
"""

import json
from collections.abc import Collection, Hashable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import cache
from http import HTTPStatus
from types import MappingProxyType
from typing import cast

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.tools.types import ToolError
from glmserve.engine.errors import (
    DecodeFailed,
    EngineDied,
    EngineUnavailable,
    ModelLoadError,
    PromptTooLong,
    QueueFull,
)
from glmserve.http.error_replies import ErrorEnvelope, status_and_code
from glmserve.http.errors import (
    BodyTooLarge,
    HeaderFieldsTooLarge,
    InvalidKey,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    RequestTimedOut,
    ServerBusy,
)

_REFERENCE = "#/components/schemas/{model}"
_SCHEMAS = "x-schemas"
_DESCRIBED = "x-described"

GENERATES: tuple[type[Exception], ...] = (
    InvalidRequest, PromptError, ToolError, PromptTooLong, ModelNotFound, QueueFull,
    DecodeFailed, EngineDied, EngineUnavailable, ModelLoadError,
)  # fmt: skip
"""Errors of a route that generates."""

_KEYS = MappingProxyType(
    {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
)
_ANY_ROUTE: tuple[type[Exception], ...] = (InvalidKey, HeaderFieldsTooLarge, RequestTimedOut, Exception)
_ANY_BODY: tuple[type[Exception], ...] = (InvalidRequest, BodyTooLarge, RateLimited, ServerBusy)


class Tag(str, Enum):
    """Kind of a route."""

    GENERATION = "generation"
    TEXT = "text"
    MODELS = "models"
    BATCHES = "batches"
    OPERATION = "operation"


@dataclass(frozen=True, slots=True)
class _Described:
    """Types of a route. Their schemas are made when the document is asked for: they take 0.3 s in all."""

    reply: object
    body: object
    events: object
    errors: Collection[type[Exception]]
    failure: object
    media_type: str
    body_type: str


class RouteDocs(TypedDict):
    """Arguments of FastAPI's ``router.post`` and its like."""

    tags: list[str | Enum]
    response_model: None
    response_class: type[Response]
    summary: str | None
    openapi_extra: dict[str, object]


def documented(
    reply: object,
    body: object = None,
    *,
    events: object = None,
    errors: Collection[type[Exception]] = GENERATES,
    failure: object = ErrorEnvelope,
    tag: Tag = Tag.GENERATION,
    summary: str | None = None,
    media_type: str = "application/json",
    body_type: str = "application/json",
) -> RouteDocs:
    """Return FastAPI's arguments of a route; see above."""
    return RouteDocs(
        tags=[tag],
        response_model=None,
        response_class=JSONResponse if media_type == "application/json" else Response,
        summary=summary,
        openapi_extra={_DESCRIBED: _Described(reply, body, events, errors, failure, media_type, body_type)},
    )


def _operation(route: _Described) -> dict[str, object]:
    """Return the entry of a route in the document, without its parameters, and its schemas."""
    schemas: dict[str, object] = {}
    success: dict[str, object] = {route.media_type: {"schema": _refer(route.reply, "serialization", schemas)}}
    if route.events is not None:
        data = _refer(route.events, "serialization", schemas)
        success["text/event-stream"] = {"itemSchema": _event(data)}
    operation: dict[str, object] = {_SCHEMAS: schemas}
    kinds = {*_ANY_ROUTE, *route.errors}
    if route.body is not None:
        kinds.update(_ANY_BODY)
        content = {route.body_type: {"schema": _refer(route.body, "validation", schemas)}}
        operation["requestBody"] = {"required": True, "content": content}
    failing = {"application/json": {"schema": _refer(route.failure, "serialization", schemas)}}
    described = [(200, "Success", success), *((status, text, failing) for status, text in _statuses(kinds))]
    operation["responses"] = {
        str(status): {"description": text, "headers": _headers(status), "content": content}
        for status, text, content in described
    }
    return operation


def _expanded(route: BaseRoute) -> BaseRoute:
    """Return ``route`` with its description in OpenAPI's words, for ``get_openapi``."""
    extra = route.openapi_extra if isinstance(route, APIRoute) else None
    described = (extra or {}).get(_DESCRIBED)
    if not isinstance(described, _Described):
        return route
    expanded = copy(route)
    assert isinstance(expanded, APIRoute)
    expanded.openapi_extra = _operation(described)
    return expanded


def openapi_of(app: FastAPI, routes: Iterable[BaseRoute], *, needs_key: bool = False) -> dict[str, object]:
    """Return the whole document, with the schemas of all routes in one place.

    Args:
        app: whose document it is.
        routes: those of its routers, as they were made.
        needs_key: whether callers need an API key.

    Raises:
        ValueError: two routes mean different things by one name.
    """
    document = get_openapi(title=app.title, version=app.version, routes=[_expanded(route) for route in routes])
    schemas: dict[str, object] = {}
    for path in _objects(document["paths"]):
        for operation in _objects(path):
            operation["responses"].pop("422", None)  # FastAPI checks nothing here, though it says so of a path
            for name, schema in operation.pop(_SCHEMAS, {}).items():
                if schemas.setdefault(name, schema) != schema:
                    raise ValueError(f"two schemas have the name {name}; rename one of the types")
    components: dict[str, object] = {"schemas": dict(sorted(schemas.items()))}
    # An event of a stream can be described since then; the rest is the same in 3.1.
    document |= {"openapi": "3.2.0", "components": components}
    if needs_key:
        components["securitySchemes"] = _KEYS
        document["security"] = [{name: []} for name in _KEYS]
        document["paths"]["/health"]["get"]["security"] = []
    return document


def _event(data: dict[str, object]) -> dict[str, object]:
    """Return the schema of a server-sent event with such ``data``, or with OpenAI's mark of the end."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    properties = {"event": {"type": "string"}, "data": {"anyOf": [{"const": "[DONE]"}, text]}}
    return {"type": "object", "properties": properties, "required": ["data"]}


def _headers(status: int) -> dict[str, object]:
    headers: dict[str, object] = {"X-Request-Id": {"required": True, "schema": {"type": "string"}}}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = {"required": True, "schema": {"type": "integer"}}
    return headers


def _refer(kind: object, mode: JsonSchemaMode, schemas: dict[str, object]) -> dict[str, object]:
    """Return a reference to the schema of ``kind``, which is put into ``schemas`` with the schemas it refers to."""
    schema: dict[str, object] = json.loads(_schema(kind, mode))
    schemas.update(cast(dict[str, object], schema.pop("$defs", {})))
    if not isinstance(kind, type) or set(schema) == {"$ref"} or "title" not in schema:
        return schema
    schemas[kind.__name__] = schema
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


@cache
def _schema(kind: Hashable, mode: JsonSchemaMode) -> str:
    """Return the schema of a type as JSON; made once, as it takes the longest."""
    adapter = TypeAdapter[object](cast(type[object], kind))
    return json.dumps(adapter.json_schema(mode=mode, ref_template=_REFERENCE))


def _statuses(kinds: Collection[type[Exception]]) -> list[tuple[int, str]]:
    """Return the statuses of these errors, each with its codes."""
    codes: dict[int, set[str]] = {}
    for status, code in map(status_and_code, kinds):
        codes.setdefault(status, set()).add(code)
    return [(status, f"{HTTPStatus(status).phrase}: {', '.join(sorted(codes[status]))}") for status in sorted(codes)]


def _objects(value: object) -> list[dict[str, dict[str, object]]]:
    return [item for item in value.values() if isinstance(item, dict)] if isinstance(value, Mapping) else []
