"""What one step does: cache operations, then the tokens of one ``llama_decode``."""

from dataclasses import dataclass

from server.engine.scheduling.sequence import Sequence


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


@dataclass(frozen=True, slots=True)
class Truncate:
    """Take what comes after the first ``length`` cells out of ``slot``."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Park:
    """Keep a copy of what ``slot`` holds as ``key``."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Put the copy ``key`` into the empty ``slot``, and forget it."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the copy ``key``."""

    key: int


CacheOp = CopyPrefix | FreeSlot | Truncate | Park | Recall | Forget


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

    drafts: tuple[int, ...] = ()
    """Guesses of the tokens that follow, computed along and sampled at as long as they come true. Never a stop token,
    and only where the item samples."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens and drafts as the model's vocabulary has them."""
        salt, tokens = self.sequence.salt, self.tokens + self.drafts
        return tuple(token - salt for token in tokens) if salt else tokens

    @property
    def scores(self) -> bool:
        """Whether the probabilities of the prompt's tokens are wanted, so that all its logits are."""
        return self.sequence.params.prompt_logprobs is not None and self.start < self.sequence.num_prompt_tokens

    @property
    def following_prompt_ids(self) -> tuple[int, ...]:
        """The prompt's tokens that follow each of ``tokens``, as the model's vocabulary has them."""
        following = self.sequence.prompt_ids[self.start + 1 : self.start + 1 + len(self.tokens)]
        return tuple(token - self.sequence.salt for token in following)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: ``ops`` in order, then ``admitted`` get a sampler, then ``items`` are decoded together."""

    ops: tuple[CacheOp, ...]
    admitted: tuple[Sequence, ...]
    items: tuple[BatchItem, ...]
