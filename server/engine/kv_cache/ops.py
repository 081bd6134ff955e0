"""Operations on the KV cache that a step carries out before its batch, and the index of offloaded prefixes. Pure."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glmserve.engine.kv_cache.prefix_cache import common_prefix


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
    """Remove the cells after the first ``length`` from ``slot``."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Offload:
    """Keep a copy of the state of ``slot`` as ``key``."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Load:
    """Put the copy ``key`` into the empty ``slot``, and delete the copy."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the copy ``key``."""

    key: int


CacheOp = CopyPrefix | FreeSlot | Truncate | Offload | Load | Drop


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """State of a model runner, for the integrity check."""

    tokens: Mapping[int, int]
    """Tokens of each non-empty slot."""
    copies: frozenset[int]
    """Keys of offloaded prefixes."""
    samplers: frozenset[int]
    """Request ids."""
    grammars: frozenset[int]
    """Request ids whose grammar is compiled, or being compiled, and that have no sampler yet."""


IDLE_CELLS = 1024
"""Cells that idle prefixes may keep: prompts that are repeated at once start from them without a copy."""

MIN_OWN = 32
"""Cells of a slot that no other slot shares, below which it is not worth a copy."""

OWN_SHARE = 4
"""A copy holds the whole path, so at least 1 / OWN_SHARE of it must be the slot's own."""

MAX_OFFLOADED = 64
"""Maximum number of offloaded prefixes: each prompt is compared with all of them."""


UNKNOWN = -(1 << 200)
"""Stands for a token that is not known any more, behind the used part of a saved prompt. No prompt has it."""


@dataclass(frozen=True, slots=True)
class CacheTraits:
    """Capabilities of a model's memory. One that keeps keys and values of each token has all of them."""

    cuts: bool = True
    """A prompt may start from the middle of what a slot holds. Otherwise the slot's whole state must be its beginning:
    a running state, or a sliding window whose older cells are gone, has no way back."""
    undoes: bool = True
    """The last tokens of a slot can be removed, as rejected drafts are."""
    copies: int = MAX_OFFLOADED
    """Offloaded prefixes at most."""


EACH_TOKEN = CacheTraits()
"""Of a model that keeps keys and values of each token."""


@dataclass(frozen=True, slots=True)
class OffloadedMatch:
    """The offloaded prefix that shares the longest start with a prompt."""

    key: int
    shared: int
    """Tokens of that start."""
    length: int
    """Tokens of the whole prefix: the cells that it takes when it comes back."""


def is_worth_offloading(own: int, length: int) -> bool:
    """Whether to keep a copy of a slot of ``length`` cells, ``own`` of which no other slot shares."""
    return own >= max(MIN_OWN, length // OWN_SHARE)


class OffloadedPrefixes:
    """Index of the cached prefixes outside the KV cache; the model runner keeps the copies, by key.

    Every token that is computed looks at every cell in use, if only to see that it is none of its sequence's: measured
    with a model of 0.9B on one core, 8,192 cells of idle prefixes cost 16 % of the decode rate and 30 % of the prefill
    rate. Copying a prefix out or in costs a few microseconds a token. So few idle ones stay in the cells.
    """

    def __init__(self, traits: CacheTraits = EACH_TOKEN) -> None:
        self._traits = traits
        self._prefixes: OrderedDict[int, tuple[int, ...]] = OrderedDict()  # used longest ago first
        self._next_key = 0
        self.num_tokens = 0
        """Tokens of all offloaded prefixes."""

    @property
    def keys(self) -> frozenset[int]:
        """Of all copies."""
        return frozenset(self._prefixes)

    def add(self, tokens: Sequence[int]) -> tuple[int, list[Drop]]:
        """Enter a prefix; return the key of its copy, and the drops of redundant ones."""
        inside = [key for key, other in self._prefixes.items() if self._is_inside(other, tokens)]
        forgotten = [self._forget(key) for key in inside]
        key = self._next_key
        self._next_key += 1
        self._prefixes[key] = tuple(tokens)
        self.num_tokens += len(tokens)
        return key, forgotten

    def match(self, prompt: Sequence[int], limit: int) -> OffloadedMatch | None:
        """Find the prefix that shares the longest start with ``prompt``, up to ``limit`` tokens."""
        best: OffloadedMatch | None = None
        for key, tokens in self._prefixes.items():
            shared = min(limit, common_prefix(tokens, prompt))
            if shared and (self._traits.cuts or shared == len(tokens)) and (best is None or shared >= best.shared):
                best = OffloadedMatch(key, shared, len(tokens))
        return best

    def find(self, tokens: tuple[int, ...]) -> int | None:
        """Return the key of the copy of just these tokens."""
        return next((key for key, other in self._prefixes.items() if other == tokens), None)

    def take(self, key: int) -> tuple[int, ...]:
        """Take a prefix out, as it goes back into the cells."""
        tokens = self._prefixes.pop(key)
        self.num_tokens -= len(tokens)
        return tokens

    def shrink(self, most_tokens: int) -> list[Drop]:
        """Drop the least recently used until no more than ``most_tokens`` and the most prefixes are left."""
        forgotten = []
        while self.num_tokens > most_tokens or len(self._prefixes) > self._traits.copies:
            forgotten.append(self._forget(next(iter(self._prefixes))))
        return forgotten

    def check_integrity(self) -> None:
        """Recount. Raises AssertionError where the book is wrong."""
        assert self.num_tokens == sum(map(len, self._prefixes.values())), "offloaded tokens do not add up"

    def _is_inside(self, other: Sequence[int], tokens: Sequence[int]) -> bool:
        """Whether a copy of ``tokens`` makes one of ``other`` useless."""
        return common_prefix(other, tokens) == len(other) and (self._traits.cuts or len(other) == len(tokens))

    def _forget(self, key: int) -> Drop:
        self.take(key)
        return Drop(key)
