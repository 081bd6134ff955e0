"""Facts about the server for gateways: version, models, load. The names of fields and addresses are SGLang's."""

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.messages import EngineInfo
from glmserve.engine.params import MAX_TOKENS
from glmserve.http.openapi import Tag, documented
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import NamedModel, ServedModel

_NO_INFO = EngineInfo(0, 0, 0, 0, "", 0.0)


class VersionObject(TypedDict):
    """The version of the server."""

    version: str


class ModelInfo(TypedDict):
    """The default model."""

    model_path: str
    tokenizer_path: str
    served_model_name: str
    is_generation: bool
    context_length: int | None


class ServerInfo(ModelInfo):
    """The server and its default model."""

    version: str
    server: str
    max_running_requests: int
    max_total_num_tokens: int
    models: list[str]


class LoadObject(TypedDict):
    """The load of one engine: sequences that run and wait, sequence slots, and cells of the KV cache."""

    dp_rank: int
    model: str
    num_running_reqs: int
    num_waiting_reqs: int
    num_total_reqs: int
    max_running_requests: int
    num_used_tokens: int
    max_total_num_tokens: int
    token_usage: float
    utilization: float


class LoadTotals(TypedDict):
    """The sums over all engines."""

    total_running_reqs: int
    total_waiting_reqs: int
    total_reqs: int


class Loads(TypedDict):
    """The load of all engines."""

    timestamp: str
    version: str
    dp_rank_count: int
    loads: list[LoadObject]
    aggregate: LoadTotals


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, telling of the models of ``registry``."""
    router = APIRouter()
    _add_facts(router, registry)

    @router.get("/loads", include_in_schema=False)
    @router.get("/v1/loads", **documented(Loads, errors=(), tag=Tag.OPERATION))
    async def loads() -> JSONResponse:
        """Return how many requests run and wait in each engine, and how full its KV cache is."""
        names = {model.host: model.card.parent or model.card.name for model in registry.models}
        each = [_load(rank, name, host) for rank, (host, name) in enumerate(names.items())]
        now = datetime.fromtimestamp(time.time(), timezone.utc).isoformat()
        reply: Loads = {
            "timestamp": now,
            "version": version("glmserve"),
            "dp_rank_count": len(each),
            "loads": each,
            "aggregate": _totals(each),
        }
        return JSONResponse(reply)

    return router


def _add_facts(router: APIRouter, registry: ModelRegistry) -> None:
    @router.get("/version", **documented(VersionObject, errors=(), tag=Tag.OPERATION))
    async def tell_version() -> JSONResponse:
        """Return the version of the server."""
        return JSONResponse({"version": version("glmserve")})

    @router.get("/get_model_info", include_in_schema=False)
    @router.get("/model_info", **documented(ModelInfo, errors=(), tag=Tag.OPERATION))
    async def model_info() -> JSONResponse:
        """Describe the default model."""
        return JSONResponse(_model_info(registry.models[0]))

    @router.get("/get_server_info", include_in_schema=False)
    @router.get("/server_info", **documented(ServerInfo, errors=(), tag=Tag.OPERATION))
    async def server_info() -> JSONResponse:
        """Describe the server and its default model."""
        model = registry.models[0]
        info = _info(model.host)
        reply: ServerInfo = {
            **_model_info(model),
            "version": version("glmserve"),
            "server": "glmserve",
            "max_running_requests": info.parallel,
            "max_total_num_tokens": info.cache_cells,
            "models": [one.card.name for one in registry.models],
        }
        return JSONResponse(reply)


def _model_info(model: NamedModel) -> ModelInfo:
    length = _info(model.host).context_length
    return {
        "model_path": model.card.name,
        "tokenizer_path": model.card.name,
        "served_model_name": model.card.name,
        "is_generation": isinstance(model, ServedModel),
        "context_length": length if 0 < length < MAX_TOKENS else None,
    }


def _load(rank: int, name: str, host: ModelHost) -> LoadObject:
    info, stats = _info(host), host.engine.stats
    return {
        "dp_rank": rank,
        "model": name,
        "num_running_reqs": stats.running,
        "num_waiting_reqs": stats.waiting,
        "num_total_reqs": stats.running + stats.waiting,
        "max_running_requests": info.parallel,
        "num_used_tokens": stats.cells_running,
        "max_total_num_tokens": info.cache_cells,
        "token_usage": _share(stats.cells_running, info.cache_cells),
        "utilization": _share(stats.running, info.parallel),
    }


def _totals(loads: Sequence[LoadObject]) -> LoadTotals:
    return {
        "total_running_reqs": sum(one["num_running_reqs"] for one in loads),
        "total_waiting_reqs": sum(one["num_waiting_reqs"] for one in loads),
        "total_reqs": sum(one["num_total_reqs"] for one in loads),
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _info(host: ModelHost) -> EngineInfo:
    """Return the capabilities of an engine; zeros before its first load."""
    try:
        return host.info
    except EngineUnavailable:
        return _NO_INFO
