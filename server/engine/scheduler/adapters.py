"""Adapters of a model, and the separation of their sequences in the prefix cache. Pure."""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from glmserve.engine.sequence import Sequence

_SALT_STEP = 2**32
"""Above every token id."""
_PREFIX_STEP = 2**20
"""Above every prefix length."""


@dataclass(frozen=True, slots=True)
class LoadedVariant:
    """A variant that the backend has loaded. ``number`` counts from 1; 0 is the model as it is."""

    number: int
    has_adapter: bool = False
    prefix_length: int = 0

    @property
    def salt(self) -> int:
        """Added to each token id: keys and values that an adapter computed are of no use without it."""
        return self.number * _SALT_STEP if self.has_adapter else 0

    @property
    def prefix_tokens(self) -> tuple[int, ...]:
        """Ids that stand for the tuned prefix in the prefix cache: negative, so no prompt has them."""
        first = -self.number * _PREFIX_STEP
        return tuple(range(first, first + self.prefix_length))

    def key(self, prompt_ids: tuple[int, ...]) -> tuple[int, ...]:
        """The prompt as the prefix cache knows it."""
        salted = tuple(token + self.salt for token in prompt_ids) if self.salt else prompt_ids
        return self.prefix_tokens + salted


PLAIN = LoadedVariant(0)


def adapter_number(salt: int) -> int:
    """The number of the variant whose adapter a sequence of this salt runs with, or 0."""
    return salt // _SALT_STEP


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
