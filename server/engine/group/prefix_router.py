"""Chooses the engine for a prompt: the one that has the most of it cached, unless it is busier by a bound. Pure.

The router does not ask the engines what they have cached: it remembers what was sent to them, in blocks of tokens. A
follower of a prefix that is being computed so goes to its owner. A wrong guess costs the computation of a prefix, and
nothing else: the engine's own cache decides what is reused.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from glmserve.engine.messages import EVERYBODY, PrefixScope

BLOCK = 16
"""Tokens of a block."""

TOKENS_OF_A_REQUEST = 64
"""Prompt tokens that take as long as a running request delays another one. A request goes to an idle engine where that
saves more than the prefix that it would find elsewhere."""

BOUND = 1.25
"""Load of an engine, as a multiple of the mean, above which it gets no more: consistent hashing with bounded loads
(Mirrokni, Thorup, Zadimoghaddam 2016)."""

SLACK = 2
"""Requests above that bound which are allowed in any case: with few requests the mean says little."""


@dataclass(frozen=True, slots=True)
class PromptKey:
    """A prompt, and with whom its cells are shared."""

    prompt_ids: tuple[int, ...]
    adapter: str = ""
    scope: PrefixScope = EVERYBODY

    def blocks(self) -> list[int]:
        """Return a number for each whole block that stands for all tokens up to its end."""
        scope, ids = self.scope, self.prompt_ids
        state = hash((self.adapter, scope.salt))
        private = hash((scope.owner, scope.bucket)) if scope.owner or scope.bucket else 0
        numbers = []
        for end in range(BLOCK, len(ids) + 1, BLOCK):
            state = hash((state, ids[end - BLOCK : end], private if end > scope.common else 0))
            numbers.append(state)
        return numbers


@dataclass(slots=True)
class _Engine:
    blocks: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    """Least recently used first."""
    room: int = 0
    """Blocks that its cache holds."""

    def match(self, blocks: Sequence[int]) -> int:
        return next((index for index, block in enumerate(blocks) if block not in self.blocks), len(blocks))


EngineKey = TypeVar("EngineKey", bound=Hashable)
"""What tells engines apart: a number, or a name."""


class PrefixRouter(Generic[EngineKey]):
    """Remembers the prompts of each engine."""

    def __init__(self, engines: Iterable[EngineKey] = ()) -> None:
        """Know ``engines``; nothing was sent to any."""
        self._engines = {engine: _Engine() for engine in engines}

    def keep(self, engines: Collection[EngineKey]) -> None:
        """Know these ``engines`` from now on: new ones have nothing cached, and all others are gone."""
        self._engines = {engine: self._engines.get(engine) or _Engine() for engine in engines}

    def resize(self, engine: EngineKey, cache_cells: int) -> None:
        """Note the size of an engine's cache."""
        self._engines[engine].room = cache_cells // BLOCK

    def forget(self, engine: EngineKey) -> None:
        """The cache of an engine is empty: its process ended."""
        self._engines[engine].blocks.clear()

    def note(self, engine: EngineKey, key: PromptKey) -> None:
        """An engine computes a prompt, or has computed an answer to it, which ``key`` then has at its end."""
        known = self._engines[engine]
        # A beginning is used whenever what follows it is, so it stays for longer.
        for block in reversed(key.blocks()):
            known.blocks[block] = None
            known.blocks.move_to_end(block)
        while len(known.blocks) > known.room:
            known.blocks.popitem(last=False)

    def order(self, key: PromptKey, loads: Mapping[EngineKey, int]) -> list[EngineKey]:
        """Return the engines for a prompt, the best one first; ``loads`` has the requests of each that may be asked."""
        blocks = key.blocks()
        limit = math.ceil(BOUND * (sum(loads.values()) + 1) / max(1, len(loads))) + SLACK
        return sorted(loads, key=lambda engine: (loads[engine] >= limit, *self._cost(engine, blocks, key, loads)))

    def _cost(
        self, engine: EngineKey, blocks: Sequence[int], key: PromptKey, loads: Mapping[EngineKey, int]
    ) -> tuple[int, int]:
        uncached = len(key.prompt_ids) - BLOCK * self._engines[engine].match(blocks)
        return uncached + TOKENS_OF_A_REQUEST * loads[engine], loads[engine]
