"""GET /v1/models and /v1/models/{id}."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.engine.errors import EngineUnavailable
from server.errors import ModelNotFound
from server.hosting.registry import EmbeddingModel, ModelRegistry, NamedModel
from server.http.openapi import Tag, documented
from server.openai.reply_types import ModelList, ModelObject


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, listing the models of ``registry``."""
    router = APIRouter()

    @router.get("/v1/models", **documented(ModelList, errors=(), tag=Tag.MODELS))
    async def list_models() -> JSONResponse:
        """List the served models, the default one first, those included that are not loaded now."""
        return JSONResponse({"object": "list", "data": [_card(model) for model in registry.models]})

    # A path, because names of models may have slashes.
    @router.get("/v1/models/{name:path}", **documented(ModelObject, errors=(ModelNotFound,), tag=Tag.MODELS))
    async def retrieve_model(name: str) -> JSONResponse:
        """Describe one model, by its name or an alias."""
        return JSONResponse(_card(registry.find(name)))

    return router


def _card(model: NamedModel) -> ModelObject:
    return {
        "id": model.card.name,
        "object": "model",
        "created": model.card.created,
        "owned_by": "glmserve",
        "aliases": list(model.card.aliases),
        "parent": model.card.parent or None,
        "kind": "embedding" if isinstance(model, EmbeddingModel) else "generation",
        "context_length": _context_length(model),
        "state": model.status.state.value,
    }


def _context_length(model: NamedModel) -> int | None:
    """Return the tokens of a context, or None before the model was loaded first."""
    try:
        return model.context_length
    except EngineUnavailable:
        return None
