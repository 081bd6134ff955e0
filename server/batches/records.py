"""Files and batches as they are kept, and the states of a batch. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

DAY_S = 24 * 3600


class Purpose(str, Enum):
    """Why a file is kept."""

    INPUT = "batch"
    OUTPUT = "batch_output"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file; its content is kept in pieces."""

    number: int
    id: str
    owner: str
    """Id of the key that it belongs to; empty on a server without keys."""
    name: str
    purpose: Purpose
    size: int
    """In bytes."""
    created: int
    """In seconds since the epoch."""
    expires: int


class BatchStatus(str, Enum):
    """The states of a batch, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


_NEXT: Mapping[BatchStatus, tuple[BatchStatus, ...]] = MappingProxyType(
    {
        BatchStatus.VALIDATING: (
            BatchStatus.IN_PROGRESS,
            BatchStatus.FAILED,
            BatchStatus.CANCELLING,
            BatchStatus.EXPIRED,
        ),
        BatchStatus.IN_PROGRESS: (BatchStatus.FINALIZING, BatchStatus.CANCELLING),
        BatchStatus.FINALIZING: (BatchStatus.COMPLETED, BatchStatus.EXPIRED),
        BatchStatus.CANCELLING: (BatchStatus.CANCELLED,),
    }
)
"""States that may follow a state; one that is not here is final."""

UNFINISHED = tuple(_NEXT)


class WrongState(Exception):
    """The batch cannot change to that state."""


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Why a batch has failed: a fault of its input."""

    code: str
    message: str
    line: int | None = None
    """The first one is 1."""
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens."""

    prompt: int = 0
    cached: int = 0
    """Of the prompts' tokens, those found in the prefix cache."""
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, as far as it has come."""

    number: int
    id: str
    owner: str
    """Id of the key that it belongs to; empty on a server without keys."""
    endpoint: str
    input_id: str
    window: str
    created: int
    """In seconds since the epoch."""
    expires: int
    file_seconds: int
    """Lifetime of its output files."""
    status: BatchStatus = BatchStatus.VALIDATING
    times: Mapping[BatchStatus, int] = field(default_factory=dict)
    """When it came to each state, in seconds since the epoch."""
    metadata: Mapping[str, str] | None = None
    problems: tuple[LineProblem, ...] = ()
    model: str = ""
    """The model of all lines; empty where they name several, or none."""
    total: int = 0
    """Lines."""
    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()
    output_id: str | None = None
    """File of the answers, once it is complete and where there are any."""
    error_id: str | None = None

    @property
    def left(self) -> int:
        """Lines that are not done."""
        return self.total - self.completed - self.failed

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status not in _NEXT

    def moved(self, status: BatchStatus, now: int) -> "Batch":
        """Return the batch in another state.

        Raises:
            WrongState: that state cannot follow.
        """
        if status not in _NEXT.get(self.status, ()):
            raise WrongState(f"a batch that is {self.status.value} cannot become {status.value}")
        return replace(self, status=status, times={**self.times, status: now})


@dataclass(frozen=True, slots=True)
class Backlog:
    """Work that the batches of a server still have to do."""

    running: int
    """Batches whose input is checked, or whose lines are answered."""
    waiting: int
    """Batches whose turn has not come."""
    lines: int
    """Lines of both that are not done; unknown for an input that is not checked."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch: where its input stands."""

    number: int
    """In the input; the first one is 1."""
    custom_id: str
    start: int
    """Offset in bytes."""
    length: int
    rank: int
    """Place in the order of computation."""
