"""``/v1/models`` in Anthropic's shape, for callers that send ``anthropic-version``."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal

from typing_extensions import TypedDict

from glmserve.model_pool.registry import ModelCard


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
