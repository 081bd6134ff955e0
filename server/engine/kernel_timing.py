"""Figures of a trial of llama.cpp's kernels, and the choice that follows from them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log

MEASURED_ROWS = (1, 8, 32, 128)
"""Tokens of a step: one stream, eight streams, prompts beside streams, and prompts alone. Each counts as much."""

ANSWER_ROWS = 8
"""Rows up to which each has an output, as the steps of answers have; prompts have one in many rows."""

WORTH = 1.05
"""How much faster weights as they lie in the file must be: repacked ones are llama.cpp's default. Where both are nearly
as fast, a busy host decided: on one CPU with AVX2, nine trials of q4_k_m gave 0.96 to 1.08, and one 0.84."""


@dataclass(frozen=True, slots=True)
class RowTiming:
    """Processor time of a step of ``rows`` tokens through the whole model, in seconds: see ``of_whole_model``."""

    rows: int
    repacked: float
    as_is: float

    @property
    def gain(self) -> float:
        """How much faster it is with repacked weights."""
        return self.as_is / self.repacked


def of_whole_model(layers: float, with_outputs: float, share: float) -> float:
    """Return the seconds of a step of a model, from the seconds of a small one that has ``share`` of its layers.

    The output matrix of a small model weighs as much as all its layers, and is computed by other kernels.

    Args:
        layers: seconds of a step of the small model without outputs.
        with_outputs: of a step with those that the step of the model has.
        share: between 0 and 1.
    """
    return layers / share + max(0.0, with_outputs - layers)


@dataclass(frozen=True, slots=True)
class Trying:
    """From the trial's process: the way it computes next, which ended the process where nothing follows."""

    repack: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """Both ways compute the same, in these times."""

    timings: tuple[RowTiming, ...]
    noise: float
    """Difference of the outputs, as a share of their spread."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """There is nothing to choose, or it cannot be measured."""

    reason: str


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Whether weights are repacked, and why."""

    repack: bool
    reason: str
    """In words that follow the choice."""
    timings: tuple[RowTiming, ...] = ()


def typical(timings: Sequence[RowTiming]) -> RowTiming:
    """Return the timing with the median gain: one of a noisy moment, slow in one of the ways, does not count."""
    return sorted(timings, key=lambda timing: timing.gain)[(len(timings) - 1) // 2]


def choose(timings: Sequence[RowTiming]) -> KernelChoice:
    """Choose by the geometric mean of the gains."""
    gain = exp(fsum(log(timing.gain) for timing in timings) / len(timings))
    if gain * WORTH > 1:
        return KernelChoice(True, f"measured to be {gain:.2f} times as fast as without", tuple(timings))
    return KernelChoice(False, f"measured to be {1 / gain:.2f} times as fast as repacked", tuple(timings))


def struck_off(last: Trying, how: str) -> KernelChoice:
    """Choose the way that did not end the process of the trial. ``how`` follows "llama.cpp"."""
    tried = "repacked weights" if last.repack else "weights as they lie in the file"
    return KernelChoice(not last.repack, f"llama.cpp {how} with {tried}")
