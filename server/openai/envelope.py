"""What replies of several kinds share: their head, their token counts, and the words for why an answer ended."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from server.engine.messages import FinishReason
from server.generation import Usage
from server.openai.reply_types import Finish, UsageObject

FINISH_REASONS: Mapping[FinishReason, Finish] = MappingProxyType(
    {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
)


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """What all chunks of one answer have in common."""

    id: str
    created: int
    model: str


def new_head(prefix: str, model: str) -> ReplyHead:
    """Return a head of its own for one answer of ``model``; ``prefix`` is that of its id, such as ``chatcmpl``."""
    return ReplyHead(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model)


def usage_object(usage: Usage) -> UsageObject:
    """Return the token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
