"""Progress of a stream before its first token: comments in every stream, objects where a request asks for them."""

from dataclasses import replace

from typing_extensions import TypedDict

from glmserve.engine.messages import PromptProgress
from glmserve.generation.generate import GenerationRequest
from glmserve.http.sse import Comment

_COMMENT_S = 5.0
"""Most requests have begun by then, and their streams have no comment."""
_REPORT_S = 0.2
"""For clients that draw the progress."""


class ProgressObject(TypedDict):
    """Progress of a prompt, as llama-server reports it, and the place in the queue."""

    total: int
    cache: int
    processed: int
    time_ms: float
    queue_position: int
    expected_wait_ms: float | None


def streamed(request: GenerationRequest, *, reports: bool = False) -> GenerationRequest:
    """Return ``request`` with the progress that a stream tells; ``reports`` are asked for."""
    return replace(request, progress_seconds=_REPORT_S if reports else _COMMENT_S)


def progress_object(progress: PromptProgress) -> ProgressObject:
    """Return ``progress`` as an object of a chunk."""
    wait = progress.expected_wait
    return {
        "total": progress.total,
        "cache": progress.cached,
        "processed": progress.processed,
        "time_ms": round(progress.seconds * 1000, 1),
        "queue_position": progress.position,
        "expected_wait_ms": None if wait is None else round(wait * 1000),
    }


def progress_comment(progress: PromptProgress) -> Comment:
    """Return ``progress`` in words."""
    if not progress.position:
        return Comment(f"prompt {progress.processed} of {progress.total} tokens")
    wait = "" if progress.expected_wait is None else f", expected wait {progress.expected_wait:.0f} s"
    return Comment(f"queue position {progress.position}{wait}")
