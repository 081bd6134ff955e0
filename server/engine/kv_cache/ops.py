"""Operations on the KV cache that a step carries out before its batch."""

from dataclasses import dataclass


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
    """Put the copy ``key`` into the empty ``slot``, and forget it."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the copy ``key``."""

    key: int


CacheOp = CopyPrefix | FreeSlot | Truncate | Offload | Load | Drop
