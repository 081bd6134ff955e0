"""GET /v1/models and /v1/models/{id}."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.engine.errors import EngineUnavailable
from server.errors import ModelNotFound
from server.hosting.registry import EmbeddingModel, ModelCard, ModelRegistry, NamedModel, ServedModel
from server.hosting.task_model import TaskModel
from server.http.openapi import Tag, documented
from server.openai.reply_types import DefaultsObject, ModelList, ModelObject
from server.tasks.card import task_card


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, listing the models of ``registry``."""
    router = APIRouter()

    @router.get("/v1/models", **documented(ModelList, errors=(), tag=Tag.MODELS))
    async def list_models() -> JSONResponse:
        """List the served models, the default one first, those included that are not loaded now; then their tasks."""
        return JSONResponse({"object": "list", "data": [_card(model) for model in (*registry.models, *registry.tasks)]})

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
        "kind": _kind(model),
        "context_length": _context_length(model),
        "state": model.status.state.value,
        "defaults": _defaults(model.card) if isinstance(model, ServedModel) else None,
        "task": task_card(model.task) if isinstance(model, TaskModel) else None,
    }


def _kind(model: NamedModel) -> Literal["generation", "embedding", "task"]:
    if isinstance(model, TaskModel):
        return "task"
    return "embedding" if isinstance(model, EmbeddingModel) else "generation"


def _defaults(card: ModelCard) -> DefaultsObject:
    return {
        "temperature": card.defaults.temperature,
        "top_p": card.defaults.top_p,
        "max_tokens": card.default_max_tokens,
    }


def _context_length(model: NamedModel) -> int | None:
    """Return the tokens of a context, or None before the model was loaded first."""
    try:
        return model.context_length
    except EngineUnavailable:
        return None
