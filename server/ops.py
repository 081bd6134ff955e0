"""What the people and programs that run the server ask it."""

from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.engine.interface import EngineState
from server.registry import ModelRegistry, ServedModel

_HEALTHY = (EngineState.READY, EngineState.IDLE)


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, reporting on the models of ``registry``."""
    router = APIRouter()

    # HEAD as well: some load balancers ask for nothing but the status.
    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> JSONResponse:
        """Report 200 when every model takes requests or waits for its first one, else 503 with the reason."""
        waiting = [model for model in registry.models if model.status.state not in _HEALTHY]
        body = {
            "status": waiting[0].status.state.value if waiting else "ok",
            "reason": waiting[0].status.reason if waiting else "",
            "models": [_report(model) for model in registry.models],
        }
        return JSONResponse(body, 503 if waiting else 200)

    return router


def _report(model: ServedModel) -> dict[str, object]:
    status = model.status
    report: dict[str, object] = {
        "name": model.card.name,
        "state": status.state.value,
        "reason": status.reason,
        "parent": model.card.parent or None,
        "stats": asdict(model.host.engine.stats),
    }
    if status.state is EngineState.READY:
        report["engine"] = asdict(model.host.info)
    return report
