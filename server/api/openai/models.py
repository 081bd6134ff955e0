"""GET /v1/models and /v1/models/{id}, in OpenAI's and in Anthropic's format."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from glmserve.chat.tasks.task import TaskObject, task_card
from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.params import MAX_TOKENS
from glmserve.http.errors import InvalidRequest, ModelNotFound, shown
from glmserve.http.openapi import Tag, documented
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel, ModelCard, NamedModel, RerankModel, ServedModel
from glmserve.model_pool.task_model import TaskModel


class DefaultsObject(TypedDict):
    """Sampling defaults of requests that leave the fields out."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_tokens: int


class ModelObject(TypedDict):
    """A served model, or a task that one does."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str]
    parent: str | None
    kind: Literal["generation", "embedding", "rerank", "task"]
    context_length: int | None
    state: str
    defaults: DefaultsObject | None
    task: TaskObject | None


class ModelList(TypedDict):
    """All served models, the default one first."""

    object: Literal["list"]
    data: list[ModelObject]


class AnthropicModel(TypedDict):
    """A model."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]


class AnthropicModelList(TypedDict):
    """All models on one page."""

    data: list[AnthropicModel]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False]


def anthropic_model(card: ModelCard) -> AnthropicModel:
    """Return the description of one model."""
    created = datetime.fromtimestamp(card.created, timezone.utc).isoformat().replace("+00:00", "Z")
    return {
        "type": "model",
        "id": card.name,
        "display_name": card.name,
        "created_at": created,
        "lifecycle": "active",
    }


def anthropic_list(cards: Sequence[ModelCard]) -> AnthropicModelList:
    """Return the list of models."""
    data = [anthropic_model(card) for card in cards]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "first_id": first, "last_id": last, "has_more": False}


_ANTHROPIC = "anthropic-version"
"""Header that Anthropic's clients send with every request."""
_Kind = Literal["generation", "embedding", "rerank", "task"]
_KINDS: tuple[_Kind, ...] = ("generation", "embedding", "rerank", "task")
_ALL = "all"


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, listing the models of ``registry``."""
    router = APIRouter()

    @router.get("/v1/models", **documented(ModelList | AnthropicModelList, errors=(InvalidRequest,), tag=Tag.MODELS))
    async def list_models(request: Request) -> JSONResponse:
        """List all models, loaded or not, the default one first; ``?kind=task`` lists their tasks, ``?kind=all`` both.

        Callers that send ``anthropic-version`` get Anthropic's shape.
        """
        listed = _listed(registry, request.query_params.get("kind"))
        if _ANTHROPIC in request.headers:
            return JSONResponse(anthropic_list([model.card for model in listed]))
        return JSONResponse({"object": "list", "data": [_card(model) for model in listed]})

    # A path, because names of models may have slashes.
    @router.get(
        "/v1/models/{name:path}",
        **documented(ModelObject | AnthropicModel, errors=(ModelNotFound,), tag=Tag.MODELS),
    )
    async def retrieve_model(name: str, request: Request) -> JSONResponse:
        """Describe one model, by its name or an alias."""
        model = registry.find(name)
        return JSONResponse(anthropic_model(model.card) if _ANTHROPIC in request.headers else _card(model))

    return router


def _listed(registry: ModelRegistry, kind: str | None) -> tuple[NamedModel, ...]:
    """Return the models of a ``kind``; without one, all but tasks. Raises InvalidRequest."""
    everything = (*registry.models, *registry.tasks)
    if kind == _ALL:
        return everything
    if kind is not None and kind not in _KINDS:
        raise InvalidRequest(f"kind must be one of {', '.join((*_KINDS, _ALL))}, not {shown(kind)}", param="kind")
    return tuple(model for model in everything if (_kind(model) == kind if kind else not isinstance(model, TaskModel)))


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
        "defaults": _defaults(model.card) if isinstance(model, ServedModel) and model.upstream is None else None,
        "task": task_card(model.task) if isinstance(model, TaskModel) else None,
    }


def _kind(model: NamedModel) -> _Kind:
    if isinstance(model, TaskModel):
        return "task"
    if isinstance(model, RerankModel):
        return "rerank"
    return "embedding" if isinstance(model, EmbeddingModel) else "generation"


def _defaults(card: ModelCard) -> DefaultsObject:
    return {
        "temperature": card.defaults.temperature,
        "top_p": card.defaults.top_p,
        "top_k": card.defaults.top_k,
        "repetition_penalty": card.defaults.repetition_penalty,
        "max_tokens": card.default_max_tokens,
    }


def _context_length(model: NamedModel) -> int | None:
    """Return the tokens of a context, or None before the model was loaded first, or where an upstream does not tell."""
    try:
        return model.context_length if model.context_length < MAX_TOKENS else None
    except EngineUnavailable:
        return None
