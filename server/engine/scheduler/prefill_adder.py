"""Adds waiting sequences to the running ones: as many as there are places and cells. Pure.

The name is SGLang's. A sequence that lacks room is passed by shorter ones, though not for ever. A sequence in the
background is preempted for one in the foreground that lacks room, and waits again with its answer so far as prompt.
"""

from collections import deque
from collections.abc import Callable, Iterable

from glmserve.engine.kv_cache.manager import KvCacheManager, checkpoints
from glmserve.engine.kv_cache.prefix_cache import PrefixMatch
from glmserve.engine.messages import FinishReason
from glmserve.engine.scheduler.waiting_queue import WaitingQueue, has_prefix_owner
from glmserve.engine.sequence import Sequence, SequenceStatus

MAX_BYPASSES = 32
"""Sequences that may start before one that lacks room: short ones need not wait, and it is not starved."""

LOOK_AHEAD = 8
"""Sequences without room that are passed in a step: a look at the cache for each."""


class PrefillAdder:
    """Decides which sequences start, and starts them in the cache."""

    def __init__(
        self,
        cache: KvCacheManager,
        waiting: WaitingQueue,
        running: dict[int, Sequence],
        parallel: int,
        finish: Callable[[Sequence, FinishReason], None],
    ) -> None:
        """Start sequences of ``waiting`` until ``parallel`` of them run.

        ``running`` has the running sequences by request id; ``finish`` ends one of them.
        """
        self._cache = cache
        self._waiting = waiting
        self._running = running
        self._parallel = parallel
        self._finish = finish
        self.to_pin: deque[Sequence] = deque()
        """Prefixes to compute and pin, before any waiting sequence."""
        self.prompt_tokens = 0
        """Tokens of all prompts that have started."""
        self.cached_tokens = 0
        """Tokens of these that came from the cache."""

    @property
    def num_answering(self) -> int:
        """Running sequences that are requests."""
        return sum(not sequence.pinned for sequence in self._running.values())

    @property
    def reserved(self) -> int:
        """Cells that running sequences may still need."""
        return sum(sequence.cells_to_come for sequence in self._running.values())

    def cached_length(self, sequence: Sequence) -> int:
        """Return how much of a prompt is in the cells, or offloaded."""
        return self._cache.cached_length(sequence.prompt_keys, sequence.num_matchable_tokens)

    def admit(self) -> tuple[tuple[Sequence, ...], tuple[Sequence, ...]]:
        """Start all that can start. Return the started sequences, and the sequences preempted for them."""
        admitted: list[Sequence] = []
        preempted: list[Sequence] = []
        while self._waiting or self.to_pin:
            started = self._admit_next(preempted)
            if started is None:
                break
            admitted.append(started)
        return tuple(admitted), tuple(preempted)

    def _admit_next(self, preempted: list[Sequence]) -> Sequence | None:
        """Start the next prefix to pin or waiting sequence that fits and need not wait for another one."""
        started = self._admit_from(self.to_pin) or self._admit_from(self._waiting.in_turn())
        if started is not None or not self._has_background:
            return started
        while self._lacks_room():
            victim = self._preempt()
            if victim is None:
                return None
            preempted.append(victim)
            if (started := self._admit_from(self._waiting.in_turn())) is not None:
                return started
        return self._admit_from(self._waiting.in_turn(background=True))

    @property
    def _has_background(self) -> bool:
        running = any(sequence.background for sequence in self._running.values())
        return running or next(self._waiting.in_turn(background=True), None) is not None

    def _lacks_room(self) -> bool:
        """Return whether a sequence of the foreground waits for more than a prefix that is being computed."""
        return any(not self._awaits_prefix(waiting) for waiting in self._waiting.in_turn())

    def _preempt(self) -> Sequence | None:
        """Have the sequence in the background that began last wait again, if there is one."""
        for sequence in reversed(self._running.values()):
            scores = sequence.params.prompt_logprobs is not None and not sequence.is_decoding
            if sequence.background and not scores:
                self._finish(sequence, FinishReason.ABORT)
                sequence.finish_reason = None
                sequence.wait_again()
                return sequence
        return None

    def _admit_from(self, queue: Iterable[Sequence]) -> Sequence | None:
        passed: list[Sequence] = []
        for sequence in queue:
            if not sequence.pinned and self.num_answering >= min(self._parallel, self._cache.slots_to_run):
                break
            if self._awaits_prefix(sequence):
                continue
            if sequence.repeatable and not self._running:
                self._cache.evict_idle()
            match = self._match(sequence)
            if self._cache.fits(match, sequence.cells_to_come, self.reserved):
                self._start(sequence, match)
                for other in passed:
                    other.bypass_count += 1
                return sequence
            passed.append(sequence)
            if sequence.pinned or sequence.bypass_count >= MAX_BYPASSES or len(passed) >= LOOK_AHEAD:
                break
        return None

    def _awaits_prefix(self, sequence: Sequence) -> bool:
        """Return whether a running sequence is computing a prefix that this one should start from."""
        return has_prefix_owner(sequence, self._running.values(), self.cached_length)

    def _match(self, sequence: Sequence) -> PrefixMatch | None:
        prompt, limit = sequence.prompt_keys, sequence.num_matchable_tokens
        return self._cache.match(prompt, limit, sequence.cells_to_come, self.reserved, len(self._running))

    def _start(self, sequence: Sequence, match: PrefixMatch | None) -> None:
        slot, shared = self._cache.allocate(sequence.prompt_keys, sequence.num_matchable_tokens, match)
        sequence.num_computed_tokens = shared
        if shared and not sequence.was_preempted:
            sequence.cached_tokens = shared - sequence.num_prefix_tokens
        if not self._cache.cuts:
            sequence.checkpoints = _checkpoints(sequence)
        sequence.slot, sequence.status, sequence.prefix_owner = slot, SequenceStatus.RUNNING, None
        self._running[sequence.request_id] = sequence
        if sequence.pinned:
            self.to_pin.remove(sequence)
            return
        self._waiting.take(sequence, sequence.num_uncomputed_tokens)
        if not sequence.was_preempted:
            self.prompt_tokens += sequence.num_prompt_tokens - sequence.num_prefix_tokens
            self.cached_tokens += sequence.cached_tokens


def _checkpoints(sequence: Sequence) -> tuple[int, ...]:
    if sequence.pinned:
        return (sequence.num_prompt_tokens,)
    return checkpoints(sequence.num_prompt_tokens, sequence.num_common_tokens, sequence.num_computed_tokens)
