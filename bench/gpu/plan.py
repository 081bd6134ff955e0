"""The steps of a run, their limits, and the outcome of each. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """End of a step."""

    DONE = "done"
    FAILED = "failed"
    LATE = "out of time"
    """It was ended at its limit."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step, which is a function of ``bench.gpu.in_process`` or ``bench.gpu.served``, run in a process of its own."""

    name: str
    title: str
    seconds: float
    """Most that it may take; all of them together stay below eight minutes where the build is given."""
    builds: bool = False
    """It makes what the others use, and takes what is left of the time where nothing is given."""


PLAN = (
    Step("build", "Build", 30, builds=True),
    Step("machine", "Machine", 20),
    Step("models", "Models", 60),
    Step("fit", "Layers that fit, and memory", 30),
    Step("logits", "Logits, CPU against the device", 45),
    Step("layers", "Offload of all, half and no layers", 60),
    Step("kv_types", "Types of the KV cache", 40),
    Step("states", "Pins and saved states", 45),
    Step("death", "An engine killed on the device", 30),
    Step("floor", "llama-bench", 30),
    Step("streams", "1, 8 and 64 streams", 70),
    Step("sampling", "Sampling on the device", 20),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One finding."""

    what: str
    value: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a step, with its findings so far."""

    name: str
    state: State
    seconds: float
    rows: tuple[Row, ...] = ()
    reason: str = ""
    """The end of its log, unless it is done."""


def due(outcomes: Mapping[str, Outcome], again: Sequence[str] = ()) -> list[Step]:
    """Return the steps that are still to be run: not done before, or asked for again."""
    return [
        step
        for step in PLAN
        if step.name in again or step.name not in outcomes or outcomes[step.name].state is not State.DONE
    ]


def limit(step: Step, left: float, build_seconds: float = 0.0, stretch: float = 1.0) -> float:
    """Return the seconds that ``step`` may take of the seconds ``left``; 0 where it is not worth beginning."""
    wanted = stretch * (max(step.seconds, build_seconds) if step.builds else step.seconds)
    return 0.0 if left < min(wanted, 5.0) else min(wanted, left)


def from_json(document: Mapping[str, object]) -> Outcome:
    """Return an outcome as ``dataclasses.asdict`` wrote it."""
    rows = document["rows"]
    assert isinstance(rows, list | tuple)
    seconds = document["seconds"]
    assert isinstance(seconds, float | int)
    return Outcome(
        str(document["name"]),
        State(str(document["state"])),
        float(seconds),
        tuple(Row(str(row["what"]), str(row["value"])) for row in rows),
        str(document["reason"]),
    )
