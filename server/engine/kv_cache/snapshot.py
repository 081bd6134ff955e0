"""State of a model runner, compared with the index of the KV cache by the integrity check."""

from collections.abc import Mapping
from dataclasses import dataclass


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
