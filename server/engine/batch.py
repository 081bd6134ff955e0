"""What one step does: cache operations, then the tokens of one ``llama_decode``."""

from dataclasses import dataclass

from server.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class CopyPrefix:
    """Share the first ``length`` cells of slot ``source`` with the empty slot ``target``."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """Take everything out of ``slot``."""

    slot: int


CacheOp = CopyPrefix | FreeSlot


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One sequence's share of a batch: ``tokens`` at positions from ``start`` on."""

    sequence: Sequence
    slot: int
    start: int
    tokens: tuple[int, ...]
    """As the prefix cache knows them; the model computes ``ids``."""
    samples: bool
    """Whether these are all tokens it has, so that the last one's logits give the next."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens as the model's vocabulary has them."""
        salt = self.sequence.salt
        return tuple(token - salt for token in self.tokens) if salt else self.tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: ``ops`` in order, then ``admitted`` get a sampler, then ``items`` are decoded together."""

    ops: tuple[CacheOp, ...]
    admitted: tuple[Sequence, ...]
    items: tuple[BatchItem, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all items."""
        return sum(len(item.tokens) for item in self.items)
