"""GET /health and GET /metrics, for operators and load balancers."""

from dataclasses import asdict, dataclass

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.interface import EngineState
from glmserve.engine.messages import EngineInfo, EngineStats
from glmserve.http.openapi import Tag, documented
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import NamedModel


@dataclass(frozen=True, slots=True)
class ModelReport:
    """How one model stands."""

    name: str
    state: EngineState
    reason: str
    parent: str | None
    stats: EngineStats
    engine: EngineInfo | None
    """Only of a model that takes requests now."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How all of them stand: "ok", "stopping", or the state of the first that does not take requests."""

    status: str
    reason: str
    models: tuple[ModelReport, ...]


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """Status for a load balancer; the whole reply to a client without a key, where keys are required."""

    status: str


_REPLY = HealthReport | HealthStatus
_DOCS = documented(_REPLY, errors=(EngineUnavailable,), failure=_REPLY, tag=Tag.OPERATION)


def create_router(registry: ModelRegistry, collectors: CollectorRegistry) -> APIRouter:
    """Return the routes, reporting on the models of ``registry`` and on the metrics of ``collectors``."""
    router = APIRouter()

    # HEAD as well: some load balancers ask for nothing but the status. The second address is SGLang's; nothing is
    # generated, as a step that takes too long already restarts the engine.
    @router.head("/health", include_in_schema=False)
    @router.get("/health_generate", include_in_schema=False)
    @router.get("/health", **_DOCS)
    async def health() -> JSONResponse:
        """Report 200 when every model takes requests, if only to be loaded by one, else 503 with the reason.

        Where the server has keys, models and reason are only for their holders.
        """
        status, reason = _overall(registry)
        if current_request().is_known:
            report: HealthReport | HealthStatus = HealthReport(status, reason, tuple(map(_report, registry.models)))
        else:
            report = HealthStatus(status)
        return JSONResponse(asdict(report), 200 if status == "ok" else 503)

    @router.get("/metrics", **documented(str, errors=(), tag=Tag.OPERATION, media_type=CONTENT_TYPE_LATEST))
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)

    return router


def _overall(registry: ModelRegistry) -> tuple[str, str]:
    if registry.stopping:
        return "stopping", "the server is shutting down"
    waiting = (model.status for model in registry.models if not model.host.takes_requests)
    first = next(waiting, None)
    return ("ok", "") if first is None else (first.state.value, first.reason)


def _report(model: NamedModel) -> ModelReport:
    status = model.status
    return ModelReport(
        name=model.card.name,
        state=status.state,
        reason=status.reason,
        parent=model.card.parent or None,
        stats=model.host.engine.stats,
        engine=model.host.info if status.state is EngineState.READY else None,
    )
