"""What a model runner keeps, compared with the index of the KV cache by the integrity check."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """What a backend keeps, for whoever compares it with the books."""

    tokens: Mapping[int, int]
    """How many each slot holds, of those that hold any."""
    copies: frozenset[int]
    """Keys of parked prefixes."""
    samplers: frozenset[int]
    """Request ids."""
    grammars: frozenset[int]
    """Request ids of those whose grammar is compiled, or being compiled, and who have no sampler yet."""
