"""Which running sequences may be computed together. Pure."""

from collections.abc import Sequence as Ordered

from glmserve.engine.sequence import Sequence


class AdapterRotation:
    """llama.cpp's adapters are set for a whole batch, so they take turns, each after the one that ran longest ago."""

    def __init__(self) -> None:
        """No adapter has had a turn."""
        self._last = -1

    def next_of(self, sequences: Ordered[Sequence]) -> list[Sequence]:
        """Return the ``sequences`` of the adapter in turn: all, if they have the same salt."""
        salts = {sequence.salt for sequence in sequences}
        if len(salts) > 1:
            later = [salt for salt in salts if salt > self._last]
            self._last = min(later or salts)
        return [s for s in sequences if len(salts) == 1 or s.salt == self._last]
