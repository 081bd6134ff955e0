"""Cost of a step by its number of tokens, learnt from earlier steps. Pure: times are passed in."""

from bisect import bisect_left
from itertools import pairwise

FASTER = 0.25
SLOWER = 0.05
"""Weights of an observation below (``FASTER``) and above the estimate: a step may be slow by chance, but never fast."""

STALE = 256
"""Observations after which a size that was not among them is forgotten: one slow step must not count for ever."""

_PROMPT_STEP = 64
"""Tokens from which a step of prompt tokens alone gives the cost of a large batch."""


class StepCost:
    """Seconds of a step of decoding sequences and their drafts.

    Between two sizes that were observed the cost is taken as linear, and beyond the largest one as what the largest
    known step, of a prompt, makes it: batches are bound by memory first and by arithmetic later, so this errs little
    (two cores, 6B q4_0: a batch of 8 costs 5 single ones, the line through 1 and 512 says 4.6).
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self._seconds: dict[int, float] = {}
        self._seen_at: dict[int, int] = {}
        self._observations = 0
        self._prompt = (0.0, 0.0)
        self._points: list[tuple[float, float]] | None = None
        """The line, if it was drawn since the last observation."""

    def observe(self, tokens: int, seconds: float, *, prompt: bool = False) -> None:
        """Learn from a step; ``prompt`` says that it was of prompt tokens alone."""
        if prompt and tokens < _PROMPT_STEP:
            return
        self._points = None
        if prompt:
            self._prompt = (tokens, seconds)
            return
        # Sizes are exact up to 7, then rounded to a quarter, so that rare sizes share observations.
        size = tokens if tokens < 8 else tokens >> (tokens.bit_length() - 3) << (tokens.bit_length() - 3)
        known = self._seconds.get(size, seconds)
        # A step beyond twice the known cost was slow for another reason: it counts, but not with all its time.
        weight = FASTER if seconds < known else SLOWER
        self._seconds[size] = known + weight * (min(seconds, 2 * known) - known)
        self._observations += 1
        self._seen_at[size] = self._observations

    def of(self, tokens: int) -> float | None:
        """Return the seconds of a step of ``tokens``; None where too little is known."""
        points = self._points
        if points is None:
            points = self._points = self._line()
        if len(points) < 2 or tokens < points[0][0]:
            return self._seconds.get(tokens)
        at = min(max(1, bisect_left(points, (tokens, 0.0))), len(points) - 1)
        (low, cheap), (high, dear) = points[at - 1], points[at]
        return cheap + (dear - cheap) * (tokens - low) / (high - low)

    def _line(self) -> list[tuple[float, float]]:
        """The observed points by size, made to rise: a larger step is never cheaper."""
        for stale in [size for size, at in self._seen_at.items() if at < self._observations - STALE]:
            del self._seconds[stale], self._seen_at[stale]
        points = sorted((float(size), seconds) for size, seconds in self._seconds.items())
        if points and self._prompt[0] > points[-1][0]:
            points.append(self._prompt)
        rising = points[:1]
        for _, (size, seconds) in pairwise(points):
            rising.append((size, max(seconds, rising[-1][1])))
        return rising
