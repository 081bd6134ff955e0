"""The content of one step: cache operations, then the tokens of one ``llama_decode``."""

from dataclasses import dataclass

from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.sequence import Sequence


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
    """Draft tokens that follow, computed in the same batch and sampled as long as they are accepted. Never a stop
    token, and only where the item samples."""

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
