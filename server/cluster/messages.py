"""Messages between the API and its engine replicas. Pickled, so plain and frozen."""

from dataclasses import dataclass

from glmserve.engine.interface import EngineState
from glmserve.engine.messages import Embed, Embedded, EngineInfo, EngineStats, StepOutput, Submit


@dataclass(frozen=True, slots=True)
class ReplicaCall:
    """To a replica: compute this. Its sender has admitted it."""

    request: Submit | Embed
    rejected_by: frozenset[str] = frozenset()
    """Replicas that did not take it, or gave it back: it goes there only where no other one is left."""
    others: bool = False
    """Whether there are replicas beside them and the one that gets it, so that it need not wait here."""


@dataclass(frozen=True, slots=True)
class Begun:
    """From a replica: it has the request. Always the first answer."""

    replica: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """From a replica: all that has come of the request since the last answer."""

    outputs: tuple[StepOutput | Embedded, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """From a replica: nothing more will come, though the request has not finished."""

    reason: str
    elsewhere: bool = False
    """Another replica may continue it."""
    rejected: bool = False
    """It was not even begun."""


Answer = Begun | Outputs | Ended


@dataclass(frozen=True, slots=True)
class Report:
    """From a replica: how it is."""

    replica: str
    state: EngineState
    reason: str
    info: EngineInfo
    stats: EngineStats
    restarts_total: int = 0
    resumed_total: int = 0


class ReplicaLost(Exception):
    """The replica that had a request has ended, or cannot be reached any more."""
