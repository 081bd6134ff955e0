"""Which waiting sequence is next. Pure.

Callers take turns by what they have had: next is the caller for whom the fewest tokens were computed, and of its
sequences the one that came first. So a caller with one request waits for a place or two, however many another caller
has, and a lone caller has everything. A caller that comes back begins at the count of the least served waiting caller:
no caller saves up by not asking. Sequences in the background come after all others, and take turns among themselves.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar

from glmserve.engine.kv_cache.manager import MIN_SHARED
from glmserve.engine.kv_cache.prefix_cache import common_prefix
from glmserve.engine.sequence import Sequence, SequenceStatus

GENERATED = 3
"""Weight of a generated token, in prompt tokens: a 0.9B model on one core generates 31.7 in the time of 76.0."""

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Account:
    """One caller's, as long as it has a sequence that waits or runs."""

    spent: int
    """Tokens computed for the caller, counted from its start value."""
    background: bool
    running: int = 0
    waiting: dict[int, Sequence] = field(default_factory=dict)
    """By request id, in the order in which they came."""

    @property
    def turn(self) -> tuple[int, int, int]:
        """The caller with the smallest is next; it must have a waiting sequence."""
        return (self.spent, self.running, next(iter(self.waiting)))


class WaitingQueue:
    """Waiting sequences, and the tokens computed for their callers so far."""

    def __init__(self) -> None:
        """The queue is empty."""
        self._accounts: dict[tuple[bool, str], _Account] = {}
        self._waiting: dict[int, Sequence] = {}
        self._last = {False: 0, True: 0}
        """Tokens computed for the caller of the last turn, in the foreground and in the background."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        """Yield all waiting sequences in the order of arrival."""
        return iter(self._waiting.values())

    def in_turn(self, *, background: bool = False) -> Iterator[Sequence]:
        """Yield the waiting sequences, the next one first. Nothing may be added or taken meanwhile."""
        accounts = (a for a in self._accounts.values() if a.waiting and a.background is background)
        for account in sorted(accounts, key=lambda a: a.turn):
            yield from account.waiting.values()

    def add(self, sequence: Sequence) -> None:
        """Have ``sequence`` wait."""
        ground = sequence.background
        waiting = (a.spent for a in self._accounts.values() if a.waiting and a.background is ground)
        least = min(waiting, default=self._last[ground])
        account = self._accounts.setdefault(_account_of(sequence), _Account(least, ground))
        if not account.waiting:
            account.spent = max(account.spent, least)
        account.waiting[sequence.request_id] = self._waiting[sequence.request_id] = sequence

    def take(self, sequence: Sequence, prompt_tokens: int) -> None:
        """``sequence`` runs from now on; ``prompt_tokens`` of its prompt are to be computed."""
        account = self._accounts[_account_of(sequence)]
        del account.waiting[sequence.request_id], self._waiting[sequence.request_id]
        self._last[account.background] = max(self._last[account.background], account.spent)
        account.running += 1
        account.spent += prompt_tokens

    def drop(self, request_id: int) -> Sequence | None:
        """Return the waiting sequence of this id, which does not wait any more, if there is one."""
        sequence = self._waiting.pop(request_id, None)
        if sequence is not None:
            del self._accounts[_account_of(sequence)].waiting[request_id]
            self._close(_account_of(sequence))
        return sequence

    def generated(self, sequence: Sequence, tokens: int) -> None:
        """Note that a running sequence was given ``tokens``."""
        self._accounts[_account_of(sequence)].spent += tokens * GENERATED

    def end(self, sequence: Sequence) -> None:
        """A sequence that was taken does not run any more."""
        self._accounts[_account_of(sequence)].running -= 1
        self._close(_account_of(sequence))

    def _close(self, name: tuple[bool, str]) -> None:
        account = self._accounts[name]
        if not account.waiting and not account.running:
            del self._accounts[name]


def _account_of(sequence: Sequence) -> tuple[bool, str]:
    return sequence.background, sequence.caller


def by_caller(items: Iterable[_T], caller: Callable[[_T], str]) -> list[_T]:
    """Return ``items`` so that callers take turns: the first one of each, then the second one of each, and so on."""
    lanes: dict[str, list[_T]] = {}
    for item in items:
        lanes.setdefault(caller(item), []).append(item)
    return [item for turn in zip_longest(*lanes.values()) for item in turn if item is not None]


def has_prefix_owner(waiting: Sequence, running: Iterable[Sequence], cached: Callable[[Sequence], int]) -> bool:
    """Return whether one of ``running`` is about to compute more of this prompt than is ``cached``, and note which."""
    prefix_owner = waiting.prefix_owner
    if prefix_owner is not None and prefix_owner.status is SequenceStatus.RUNNING:
        if prefix_owner.num_computed_tokens < waiting.prefix_owner_length:
            return True
        waiting.prefix_owner = None
    prompt, limit = waiting.prompt_keys, waiting.num_matchable_tokens
    for other in running:
        if other.is_decoding or other.num_uncomputed_tokens < MIN_SHARED:
            continue
        shared = other.shareable(min(limit, common_prefix(prompt, other.prompt_keys)))
        # A prompt that is scored is computed although the cache holds it: then there is nothing to wait for.
        if shared >= other.num_computed_tokens + MIN_SHARED and shared >= cached(waiting) + MIN_SHARED:
            waiting.prefix_owner, waiting.prefix_owner_length = other, shared
            return True
    return False
