"""GET /metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from glmserve.http.openapi import Tag, documented


def create_router(figures: CollectorRegistry) -> APIRouter:
    """Return the route, telling ``figures``."""
    router = APIRouter()

    @router.get("/metrics", **documented(str, errors=(), tag=Tag.OPERATION, media_type=CONTENT_TYPE_LATEST))
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(figures), media_type=CONTENT_TYPE_LATEST)

    return router
