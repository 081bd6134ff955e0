"""Decides the tokens of each step. Pure: no llama_cpp, no clock, no I/O.

A step gives one token to every sequence that is decoding (up to a limit, in turn), and fills the rest of its token
budget with pieces of prompts; where long prompts are cheaper alone, both take turns (``pacing``). There are no phases;
``num_computed_tokens`` catches up with ``tokens``. A prefix that a running sequence is computing just now is waited for
rather than computed again. Cells are reserved at admission for prompt and answer, so nothing that runs is ever thrown
out. Who is next among those that wait: see ``waiting``.

Some prefixes are *held*: never evicted. They are put into the cells by somebody else, or computed while no request
runs, or as soon as one waits for them. Of the others only a few stay in the cells while nobody uses them; see
``parking``.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from glmserve.engine.kv_cache.offload import IDLE_CELLS, OffloadedPrefixes, is_worth_offloading
from glmserve.engine.kv_cache.ops import CacheOp, CopyPrefix, FreeSlot, Load, Offload, Truncate
from glmserve.engine.kv_cache.prefix_cache import Match, PrefixCache
from glmserve.engine.kv_cache.snapshot import CacheSnapshot
from glmserve.engine.messages import EngineStats, FinishReason, SampledToken, StepOutput
from glmserve.engine.scheduler.adapter_rotation import AdapterRotation
from glmserve.engine.scheduler.batch import Batch, BatchItem
from glmserve.engine.scheduler.chunked_prefill import ChunkedPrefill, item_of
from glmserve.engine.scheduler.shared_prefix import MIN_SHARED, has_prefix_owner
from glmserve.engine.scheduler.step_budget import StepBudget
from glmserve.engine.scheduler.waiting_queue import WaitingQueue, by_caller
from glmserve.engine.sequence import Sequence, SequenceStatus
from glmserve.engine.speculative.controller import SpeculativeController

MAX_BYPASSES = 32
"""Sequences that may begin before one for which there is no room: short ones do not wait behind it, nor it for ever."""

_LOOK_AHEAD = 8
"""Sequences without room that are passed in a step: a look at the cache for each."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Bounds of the llama.cpp context."""

    parallel: int
    """Sequences that run at once."""
    slots: int
    """``llama_seq_id`` lanes, for running sequences and for cached prefixes."""
    cells: int
    longest: int
    """Cells that one sequence may need; held prefixes leave as many free."""
    stop_ids: frozenset[int] = frozenset()
    """End-of-generation tokens."""
    decoding_limit: int = 256
    """Sequences that decode in one step; more take turns."""
    idle_cells: int = IDLE_CELLS
    """Cells that prefixes without a running sequence may keep."""


class Scheduler:
    """``add`` and ``abort`` requests, ``schedule`` a step, ``update`` with its outputs."""

    def __init__(self, config: SchedulerConfig, speculation: SpeculativeController | None = None) -> None:
        """Start with every cell free. Without ``speculation`` nothing is drafted."""
        self._config = config
        self.cache = PrefixCache()
        self._parked = OffloadedPrefixes()
        self._waiting = WaitingQueue()
        self._to_hold: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}
        self._held_slots = 0
        self._cells_held = 0
        self._free_slots = list(range(config.slots - 1, -1, -1))
        self._ops: list[CacheOp] = []
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._generated_tokens = 0
        self.steps = 0
        self._prompt_turns = ChunkedPrefill()
        self._turns = AdapterRotation()
        self._speculation = speculation

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self._waiting or self._to_hold or self._running)

    @property
    def is_unhurried(self) -> bool:
        """Whether a step would only compute prefixes to hold: a request that comes should not find a long one."""
        return not self._waiting and all(sequence.pinned for sequence in self._running.values())

    @property
    def decoding(self) -> int:
        """Sequences that have output a token, so that a client would notice a slow step."""
        return sum(sequence.is_decoding for sequence in self._running.values())

    @property
    def stats(self) -> EngineStats:
        """A snapshot."""
        return EngineStats(
            running=self._num_answering,
            waiting=len(self._waiting),
            cells_used=self.cache.cells_used,
            tokens_parked=self._parked.num_tokens,
            cells_running=self.cache.cells_pinned + self._reserved(),
            cells_held=self._cells_held,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            steps=self.steps,
            drafted_tokens=0 if self._speculation is None else self._speculation.drafted_tokens,
            accepted_tokens=0 if self._speculation is None else self._speculation.accepted_tokens,
        )

    @property
    def expected_snapshot(self) -> CacheSnapshot:
        """The model runner's state if all is right and ``take_ops`` are applied; a grammar for any waiting sequence."""
        slots = (slot for slot in range(self._config.slots) if slot in self.cache)
        return CacheSnapshot(
            tokens={slot: length for slot in slots if (length := self.cache.length(slot))},
            copies=self._parked.keys,
            samplers=frozenset(s.request_id for s in self._running.values() if not s.pinned),
            grammars=frozenset(s.request_id for s in self._waiting),
        )

    def add(self, sequence: Sequence) -> None:
        """Queue ``sequence``; the caller bounds the number of waiting ones."""
        self._waiting.add(sequence)

    def abort(self, request_id: int) -> bool:
        """End the sequence without another output for it. False if it has ended already."""
        running = self._running.get(request_id)
        if running is not None:
            self._finish(running, FinishReason.ABORT)
            return True
        waiting = self._waiting.drop(request_id)
        if waiting is not None:
            waiting.status, waiting.finish_reason = SequenceStatus.FINISHED, FinishReason.ABORT
        return waiting is not None

    def pin_slot(self, tokens: tuple[int, ...]) -> int:
        """Give ``tokens`` a slot for ever; apply ``take_ops``, then put them into its cells. See ``can_hold``."""
        self._evict_for(len(tokens))
        slot = self._free_slot()
        self.cache.open(slot)
        self.cache.extend(slot, tokens)
        self._held_slots += 1
        self._cells_held += len(tokens)
        return slot

    def pin_computed(self, sequence: Sequence) -> None:
        """Compute the prompt of ``sequence``, which is ``pinned``, when there is time, and keep it for ever."""
        self._to_hold.append(sequence)
        self._held_slots += 1
        self._cells_held += sequence.num_prompt_tokens

    def unpin(self, slot: int) -> None:
        """Undo ``pin_slot``."""
        self._held_slots -= 1
        self._cells_held -= self.cache.length(slot)
        self._release(slot)

    def can_hold(self, tokens: int, *, now: bool = False) -> bool:
        """Whether a request may begin with ``tokens`` and the longest one finds room beside them.

        With ``now``: and all that run.
        """
        if tokens >= self._config.longest or self._held_slots >= self._config.slots - self._config.parallel:
            return False
        others = self.cache.cells_pinned + self._reserved() if now else self._cells_held + self._config.longest
        return others + tokens <= self._config.cells

    def take_ops(self) -> tuple[CacheOp, ...]:
        """Return the cache operations that are due; the next step does without them."""
        ops, self._ops = tuple(self._ops), []
        return ops

    def schedule(self, pace: StepBudget, seconds: float = 0.0) -> Batch:
        """Plan a step at ``pace``; each decoding sequence gets one token, even above the budget.

        A step without prompts gets drafts, as far as it stays under ``seconds``.
        """
        admitted = list(iter(self._admit, None))
        while self.cache.cells_used - self.cache.cells_pinned > self._config.idle_cells:
            self._evict()
        decoding, catching_up, tokens = pace.share(self._turns.next_of(self._wanted()))
        decoding = self._in_turn(decoding)
        room = max(0, tokens - len(decoding))
        drafts = self._drafts(decoding, 0 if catching_up else room, seconds)
        items = [item_of(sequence, 1, drafts.get(sequence.request_id, ())) for sequence in decoding]
        items += self._prompt_turns.pieces(catching_up, room)
        size = sum(len(item.ids) for item in items)
        self._evict_for(size)
        self._ops += self._parked.shrink(self._config.cells - self.cache.cells_used - size)
        return Batch(self.take_ops(), tuple(admitted), tuple(items))

    def update(
        self, batch: Batch, sampled: Mapping[int, tuple[SampledToken, ...]], failed: Mapping[int, str] | None = None
    ) -> list[StepOutput]:
        """Enter the outputs of the step, by request id: tokens for each item that samples, or the error of the item.

        There is one token, and one more for each draft that came true.
        """
        self.steps += 1
        outputs = []
        for item in batch.items:
            sequence = item.sequence
            if failed and sequence.request_id in failed:
                outputs.append(self._fail(sequence, failed[sequence.request_id]))
                continue
            given = sampled[sequence.request_id] if item.samples else ()
            self._enter(item, item.tokens + item.drafts[: max(0, len(given) - 1)])
            if given:
                outputs.append(self._append(sequence, given))
            elif sequence.pinned and not sequence.num_uncomputed_tokens:
                self._end(sequence, FinishReason.LENGTH)  # its slot stays pinned
                self._drop_redundant(sequence.slot)
        return outputs

    def check_integrity(self) -> None:
        """Check the books. Raises AssertionError where they are wrong."""
        self.cache.check_integrity()
        self._parked.check_integrity()
        pinned = [slot for slot in range(self._config.slots) if slot in self.cache]
        assert sorted(pinned + self._free_slots) == list(range(self._config.slots)), "a slot is lost or held twice"
        assert self.cache.cells_used <= self._config.cells, "more cells than there are"
        assert self.cache.cells_pinned + self._reserved() <= self._config.cells, "more promised than there is"
        for sequence in self._running.values():
            computed = list(sequence.keys(0, sequence.tokens[: sequence.num_computed_tokens]))
            assert self.cache.tokens(sequence.slot) == computed, "a slot holds other tokens than its sequence"
        if self._speculation is not None:
            assert self._speculation.request_ids <= self._running.keys(), "drafts for a sequence that has ended"

    def _admit(self) -> Sequence | None:
        """Start the next prefix to hold or waiting sequence that fits and need not wait for another one."""
        waiting = self._waiting.in_turn() if self._num_answering < self._config.parallel else ()
        return self._admit_from(self._to_hold) or self._admit_from(waiting)

    def _admit_from(self, queue: Iterable[Sequence]) -> Sequence | None:
        passed: list[Sequence] = []
        for sequence in queue:
            if has_prefix_owner(sequence, self._running.values(), self._cached):
                continue
            match = self._match(sequence)
            if self._fits(sequence, match):
                self._start(sequence, match)
                for other in passed:
                    other.bypass_count += 1
                return sequence
            passed.append(sequence)
            if sequence.pinned or sequence.bypass_count >= MAX_BYPASSES or len(passed) >= _LOOK_AHEAD:
                break
        return None

    def _match(self, sequence: Sequence) -> Match | None:
        """Find the longest cached prefix; one that is parked comes back if it is longer and ``sequence`` can start."""
        prompt, limit = sequence.prompt_keys, sequence.num_matchable_tokens
        match = self.cache.match(prompt, limit)
        parked = self._parked.match(prompt, limit)
        if parked is None or parked.shared < (match.length if match else 0) + MIN_SHARED:
            return match
        needed = self.cache.cells_pinned + self._reserved() + max(parked.length, sequence.cells_to_come)
        slots = self._config.slots - len(self._running) - self._held_slots
        if needed > self._config.cells or slots < 2:  # its own and the sequence's
            return match
        tokens = self._parked.take(parked.key)
        self._evict_for(len(tokens))
        slot = self._free_slot()
        self.cache.open(slot)
        self.cache.extend(slot, tokens)
        self.cache.unpin(slot)
        self._ops.append(Load(slot, parked.key))
        return self.cache.match(prompt, limit)

    def _cached(self, sequence: Sequence) -> int:
        prompt, limit = sequence.prompt_keys, sequence.num_matchable_tokens
        match, parked = self.cache.match(prompt, limit), self._parked.match(prompt, limit)
        return max(match.length if match else 0, parked.shared if parked else 0)

    def _fits(self, sequence: Sequence, match: Match | None) -> bool:
        shared, unpinned = (0, 0) if match is None else (match.length, match.unpinned)
        wanted = unpinned + sequence.cells_to_come - shared
        return self.cache.cells_pinned + self._reserved() + wanted <= self._config.cells

    def _start(self, sequence: Sequence, match: Match | None) -> None:
        if match is not None:
            self.cache.touch(match.slot)  # or it might be the one that is evicted for its own copy
        slot = self._free_slot()
        if match is not None and match.slot not in self.cache:
            match = self.cache.match(sequence.prompt_keys, sequence.num_matchable_tokens)
        self.cache.open(slot, match)
        if match is not None:
            self._ops.append(CopyPrefix(match.slot, slot, match.length))
            sequence.num_computed_tokens = match.length
            sequence.cached_tokens = match.length - sequence.num_prefix_tokens
        sequence.slot, sequence.status, sequence.prefix_owner = slot, SequenceStatus.RUNNING, None
        self._running[sequence.request_id] = sequence
        if sequence.pinned:
            self._to_hold.remove(sequence)
            return
        self._waiting.take(sequence, sequence.num_uncomputed_tokens)
        self._prompt_tokens += sequence.num_prompt_tokens - sequence.num_prefix_tokens
        self._cached_tokens += sequence.cached_tokens

    def _enter(self, item: BatchItem, computed: tuple[int, ...]) -> None:
        """Account for computed tokens; rejected drafts are removed from the cells."""
        self.cache.extend(item.slot, item.sequence.keys(item.start, computed))
        item.sequence.num_computed_tokens += len(computed)
        if len(computed) < len(item.ids):
            self._ops.append(Truncate(item.slot, item.start + len(computed)))

    def _append(self, sequence: Sequence, sampled: tuple[SampledToken, ...]) -> StepOutput:
        ids = tuple(token.token_id for token in sampled)
        sequence.tokens.extend(token + sequence.salt for token in ids)
        self._generated_tokens += len(ids)
        self._waiting.generated(sequence, len(ids))
        reason = None
        if sampled[-1].final or (ids[-1] in self._config.stop_ids and not sequence.params.ignore_eos):
            reason = FinishReason.STOP
        elif sequence.num_generated_tokens >= sequence.max_tokens:
            reason = FinishReason.LENGTH
        if reason is not None:
            self._finish(sequence, reason)
        logprobs = () if sequence.params.logprobs is None else sampled
        return StepOutput(sequence.request_id, ids, reason, sequence.cached_tokens, logprobs=logprobs)

    def _fail(self, sequence: Sequence, error: str) -> StepOutput:
        self._end(sequence, FinishReason.ERROR)
        if sequence.pinned:
            self._held_slots -= 1
            self._cells_held -= sequence.num_prompt_tokens
        self._release(sequence.slot)
        return StepOutput(sequence.request_id, (), FinishReason.ERROR, sequence.cached_tokens, error)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End ``sequence`` and keep its computed tokens as a cached prefix."""
        self._end(sequence, reason)
        self.cache.unpin(sequence.slot)
        self._drop_redundant(sequence.slot)

    def _drop_redundant(self, slot: int) -> None:
        for other in self.cache.redundant(slot):
            self._release(other)

    def _in_turn(self, decoding: list[Sequence]) -> list[Sequence]:
        """Sequences that decode in this step, where not all may: callers take turns, and each caller's sequences."""
        if len(decoding) <= self._config.decoding_limit:
            return decoding
        chosen = by_caller(decoding, attrgetter("caller"))[: self._config.decoding_limit]
        for sequence in chosen:
            self._running[sequence.request_id] = self._running.pop(sequence.request_id)
        return chosen

    def _drafts(self, decoding: list[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        if self._speculation is None:
            return {}
        return self._speculation.propose(decoding, min(room, self._config.decoding_limit - len(decoding)), seconds)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        del self._running[sequence.request_id]
        if not sequence.pinned:
            self._waiting.end(sequence)
        if self._speculation is not None:
            self._speculation.forget(sequence.request_id)
        sequence.status, sequence.finish_reason = SequenceStatus.FINISHED, reason

    def _release(self, slot: int) -> None:
        self.cache.release(slot)
        self._free_slots.append(slot)
        self._ops.append(FreeSlot(slot))

    def _wanted(self) -> list[Sequence]:
        """Running sequences with a waiting client; prefixes to pin where there are none."""
        awaited = {id(sequence.prefix_owner) for sequence in self._waiting}
        running = list(self._running.values())
        return [s for s in running if not s.pinned or id(s) in awaited] or running

    def _free_slot(self) -> int:
        if not self._free_slots:
            self._evict()
        return self._free_slots.pop()

    def _evict(self) -> None:
        slot = self.cache.evictable()
        assert slot is not None, "reservation promised room that is not there"
        length = self.cache.length(slot)
        if is_worth_offloading(self.cache.own(slot), length) and self.cache.cells_pinned + length <= self._config.cells:
            key, forgotten = self._parked.add(self.cache.tokens(slot))
            self._ops += [*forgotten, Offload(slot, key)]
        self._release(slot)

    def _evict_for(self, tokens: int) -> None:
        while self.cache.cells_used + tokens > self._config.cells:
            self._evict()

    @property
    def _num_answering(self) -> int:
        return sum(not sequence.pinned for sequence in self._running.values())

    def _reserved(self) -> int:
        return sum(sequence.cells_to_come for sequence in self._running.values())
