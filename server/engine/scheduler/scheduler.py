"""Decides the tokens of each step. Pure: no llama_cpp, no clock, no I/O.

A step gives one token to every decoding sequence (up to a limit, in turn), and fills the rest of its token budget with
chunks of prompts; where long prompts are cheaper alone, both take turns (``step_budget``). There are no phases:
``num_computed_tokens`` catches up with ``tokens``. A sequence waits for a prefix that a running one is computing
(``shared_prefix``). Cells are reserved at admission for prompt and answer, so a running sequence is never evicted.
Sequences in the background have turns only while no other one runs, and give up their place to one that lacks room.
``waiting_queue`` decides which sequence is next, ``prefill_adder`` whether it starts, ``kv_cache.manager`` which cells
it gets.

Some prefixes are *pinned*: never evicted. They are loaded into the cells, or computed while no request runs, or as
soon as a request waits for them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

from glmserve.engine.kv_cache.manager import KvCacheManager
from glmserve.engine.kv_cache.ops import EACH_TOKEN, IDLE_CELLS, CacheOp, CacheSnapshot, CacheTraits
from glmserve.engine.messages import EngineStats, FinishReason, SampledToken, StepOutput
from glmserve.engine.scheduler.batch import AdapterRotation, Batch, BatchItem, ChunkedPrefill, item_of
from glmserve.engine.scheduler.prefill_adder import PrefillAdder
from glmserve.engine.scheduler.step_budget import StepBudget
from glmserve.engine.scheduler.waiting_queue import WaitingQueue, by_caller
from glmserve.engine.sequence import REPEATABLE_CHUNK, REPEATABLE_ROWS, Sequence, SequenceStatus
from glmserve.engine.speculative import SpeculativeController

MAX_ENDED = 64
"""Sequences that have ended and are remembered, until the core asks for them."""

MAX_REPEATABLE = 4
"""Repeatable sequences at once without ``--deterministic``: they are decoded two by two, which is slow for many."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Bounds of the llama.cpp context."""

    parallel: int
    """Sequences that run at once."""
    slots: int
    """``llama_seq_id`` lanes, for running sequences and for cached prefixes."""
    cells: int
    longest: int
    """Cells that one sequence may need; pinned prefixes leave as many free."""
    stop_ids: frozenset[int] = frozenset()
    """End-of-generation tokens."""
    decoding_limit: int = 256
    """Sequences that decode in one step; more take turns."""
    repeatable_chunk: int = REPEATABLE_CHUNK
    """Tokens of a repeatable prompt in a step."""
    idle_cells: int = IDLE_CELLS
    """Cells that prefixes without a running sequence may keep."""
    traits: CacheTraits = EACH_TOKEN
    """Operations that the memory of the model allows."""


class Scheduler:
    """``add`` and ``abort`` requests, ``schedule`` a step, ``update`` with its outputs."""

    def __init__(self, config: SchedulerConfig, speculation: SpeculativeController | None = None) -> None:
        """Start with every cell free. Without ``speculation`` nothing is drafted."""
        self._config = config
        self.cache = self._cache = KvCacheManager(config.cells, config.slots, config.idle_cells, config.traits)
        self._waiting = WaitingQueue()
        self._running: dict[int, Sequence] = {}
        self._adder = PrefillAdder(self._cache, self._waiting, self._running, config.parallel, self._finish)
        self._ended: deque[Sequence] = deque(maxlen=MAX_ENDED)
        self._generated_tokens = 0
        self.steps = 0
        self._prefill = ChunkedPrefill()
        self._rotation = AdapterRotation()
        self._speculation = speculation

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self._waiting or self._adder.to_pin or self._running)

    @property
    def is_unhurried(self) -> bool:
        """Whether a step would only compute prefixes to pin: a request that comes should not find a long one."""
        return not self._waiting and all(sequence.pinned for sequence in self._running.values())

    @property
    def is_background(self) -> bool:
        """Whether a step would compute sequences in the background."""
        running = [sequence for sequence in self._running.values() if not sequence.pinned]
        waits = next(self._waiting.in_turn(), None) is not None
        return bool(running or self._waiting) and not waits and all(sequence.background for sequence in running)

    @property
    def decoding(self) -> int:
        """Sequences that have output a token, so that a client would notice a slow step."""
        return sum(sequence.is_decoding for sequence in self._running.values())

    @property
    def takes_repeatable(self) -> bool:
        """Whether a sequence that is added now can be repeatable: there are few others, and all are repeatable."""
        others = [*(s for s in self._running.values() if not s.pinned), *self._waiting]
        return len(others) < MAX_REPEATABLE and all(s.repeatable and not s.disturbed for s in others)

    @property
    def waiting(self) -> list[Sequence]:
        """Waiting sequences in the order in which they are likely to start."""
        grounds = (self._waiting.in_turn(background=background) for background in (False, True))
        return [sequence for ground in grounds for sequence in by_caller(ground, attrgetter("caller"))]

    @property
    def prefilling(self) -> list[Sequence]:
        """Running sequences without a token."""
        return [s for s in self._running.values() if not (s.pinned or s.is_decoding)]

    @property
    def stats(self) -> EngineStats:
        """A snapshot."""
        return EngineStats(
            running=self._adder.num_answering,
            waiting=len(self._waiting),
            cells_used=self._cache.cells_used,
            tokens_parked=self._cache.tokens_offloaded,
            cells_running=self._cache.cells_pinned + self._adder.reserved,
            cells_held=self._cache.tokens_pinned,
            prompt_tokens=self._adder.prompt_tokens,
            cached_tokens=self._adder.cached_tokens,
            generated_tokens=self._generated_tokens,
            steps=self.steps,
            drafted_tokens=self._speculation.drafted_tokens if self._speculation else 0,
            accepted_tokens=self._speculation.accepted_tokens if self._speculation else 0,
        )

    @property
    def expected_snapshot(self) -> CacheSnapshot:
        """The model runner's state if all is right and ``take_ops`` are applied; a grammar for any waiting sequence."""
        return CacheSnapshot(
            tokens=self._cache.lengths,
            copies=self._cache.offloaded_keys,
            samplers=frozenset(s.request_id for s in self._running.values() if not s.pinned),
            grammars=frozenset(s.request_id for s in self._waiting),
        )

    def add(self, sequence: Sequence) -> None:
        """Queue ``sequence``; the caller bounds the number of waiting ones."""
        self._waiting.add(sequence)

    def abort(self, request_id: int) -> bool:
        """End the sequence without another output for it. False if it has ended already."""
        if (running := self._running.get(request_id)) is not None:
            self._finish(running, FinishReason.ABORT)
            return True
        if (waiting := self._waiting.drop(request_id)) is not None:
            waiting.status, waiting.finish_reason = SequenceStatus.FINISHED, FinishReason.ABORT
        return waiting is not None

    def pin_slot(self, tokens: tuple[int, ...]) -> int:
        """Give ``tokens`` a slot for ever; apply ``take_ops``, then put them into its cells. See ``can_pin``."""
        return self._cache.pin(tokens)

    def pin_computed(self, sequence: Sequence) -> None:
        """Compute the prompt of ``sequence``, which is ``pinned``, when there is time, and keep it for ever."""
        self._adder.to_pin.append(sequence)
        self._cache.promise_pin(sequence.num_prompt_tokens)

    def unpin(self, slot: int) -> None:
        """Undo ``pin_slot``."""
        self._cache.unpin(slot)

    def can_pin(self, tokens: int, *, now: bool = False) -> bool:
        """Return whether a request may begin with ``tokens`` and the longest one finds room beside them.

        With ``now``: and all that run.
        """
        config = self._config
        beside = self._cache.cells_pinned + self._adder.reserved if now else self._cache.tokens_pinned + config.longest
        return tokens < config.longest and self._cache.can_pin(tokens, config.slots - config.parallel, beside)

    def cached_length(self, sequence: Sequence) -> int:
        """Return how much of a prompt is in the cells, or offloaded."""
        return self._adder.cached_length(sequence)

    def take_ended(self) -> tuple[Sequence, ...]:
        """Return the sequences that have ended and left their tokens in the cache, the last ones of many."""
        ended = tuple(sequence for sequence in self._ended if sequence.status is SequenceStatus.FINISHED)
        self._ended.clear()
        return ended

    def take_ops(self) -> tuple[CacheOp, ...]:
        """Return the due cache operations; the next step does without them."""
        return self._cache.take_ops()

    def schedule(self, budget: StepBudget, seconds: float = 0.0) -> Batch:
        """Plan a step within ``budget``; each decoding sequence gets one token, even above the budget.

        A step without prompts gets drafts, as far as it stays under ``seconds``.
        """
        admitted, preempted = self._adder.admit()
        running = self._running.values()
        if not any(sequence.repeatable and not sequence.disturbed for sequence in running):
            self._cache.trim_idle(max((s.num_uncomputed_tokens for s in running), default=0))
        wanted = self._rotation.next_of(self._wanted())
        repeatable = [sequence for sequence in wanted if sequence.repeatable]
        if len(repeatable) == len(wanted) and not any(sequence.disturbed for sequence in repeatable):
            items = self._repeatable_items(wanted, budget, seconds)
        else:
            for sequence in repeatable:
                sequence.disturb()
            items = self._items(wanted, budget, seconds)
        self._cache.make_room(sum(item.num_tokens for item in items))
        for sequence in running if self._cache.has_holes else ():
            sequence.disturb()
        return Batch(self.take_ops(), admitted, tuple(items), preempted)

    def _items(self, wanted: list[Sequence], budget: StepBudget, seconds: float) -> list[BatchItem]:
        decoding, catching_up, tokens, at_once = budget.share(wanted, self._cache.cells_used)
        limit = self._config.decoding_limit
        decoding = self._in_turn(decoding, min(limit, at_once))
        room = max(0, tokens - len(decoding))
        spare = 0 if catching_up else min(room, limit - len(decoding))
        return self._with_drafts(decoding, spare, seconds) + self._prefill.chunks(catching_up, room)

    def _repeatable_items(self, wanted: list[Sequence], budget: StepBudget, seconds: float) -> list[BatchItem]:
        """Return a step whose size depends on nothing else: a chunk of one prompt, or two rows."""
        decoding = [sequence for sequence in wanted if sequence.is_decoding]
        catching_up = self._prefill.in_turn([sequence for sequence in wanted if not sequence.is_decoding])
        if catching_up and not (decoding and budget.answers_next):
            return [item_of(catching_up[0], catching_up[0].next_chunk(self._config.repeatable_chunk))]
        decoding = self._in_turn(decoding, REPEATABLE_ROWS)
        return self._with_drafts(decoding, REPEATABLE_ROWS - len(decoding), seconds)

    def _with_drafts(self, decoding: list[Sequence], room: int, seconds: float) -> list[BatchItem]:
        drafts = self._speculation.propose(decoding, room, seconds) if self._speculation else {}
        return [item_of(sequence, 1, drafts.get(sequence.request_id, ())) for sequence in decoding]

    def update(
        self,
        batch: Batch,
        sampled: Mapping[int, tuple[SampledToken, ...]],
        failed: Mapping[int, str] | None = None,
        now: float = 0.0,
    ) -> list[StepOutput]:
        """Enter the outputs of the step, by request id: tokens for each item that samples, or the error of the item.

        There is one token, and one more for each accepted draft token. ``now`` is the time at the end of the step.
        """
        self.steps += 1
        outputs = []
        for item in batch.items:
            sequence = item.sequence
            if failed and sequence.request_id in failed:
                outputs.append(self._fail(sequence, failed[sequence.request_id], now))
                continue
            given = sampled[sequence.request_id] if item.samples else ()
            self._enter(item, item.tokens + item.drafts[: max(0, len(given) - 1)])
            if given:
                outputs.append(self._append(sequence, given, now))
            elif sequence.pinned and not sequence.num_uncomputed_tokens:
                self._end(sequence, FinishReason.LENGTH)  # its slot stays pinned
                self._cache.drop_redundant(sequence.slot)
        return outputs

    def check_integrity(self) -> None:
        """Check the indexes. Raises AssertionError where they are wrong."""
        self._cache.check_integrity(self._adder.reserved)
        for sequence in self._running.values():
            computed = list(sequence.keys(0, sequence.tokens[: sequence.num_computed_tokens]))
            assert self._cache.tokens(sequence.slot) == computed, "a slot holds other tokens than its sequence"
        if self._speculation is not None:
            assert self._speculation.request_ids <= self._running.keys(), "drafts for a sequence that has ended"

    def _enter(self, item: BatchItem, computed: tuple[int, ...]) -> None:
        """Account for computed tokens; rejected drafts are removed from the cells."""
        item.sequence.num_computed_tokens += len(computed)
        end, drafted = item.start + len(computed), len(computed) < item.num_tokens
        self._cache.extend(item.slot, item.sequence.keys(item.start, computed), end=end, drafted=drafted)
        if not item.sequence.pinned and end in (item.sequence.checkpoints or ()):
            self._cache.checkpoint(item.slot)

    def _append(self, sequence: Sequence, sampled: tuple[SampledToken, ...], now: float) -> StepOutput:
        ids = tuple(token.token_id for token in sampled)
        sequence.tokens.extend(token + sequence.salt for token in ids)
        self._generated_tokens += len(ids)
        self._waiting.generated(sequence, len(ids))
        reason = sequence.finish_reason_after(sampled[-1], self._config.stop_ids)
        if reason is not None:
            self._finish(sequence, reason)
        logprobs = () if sequence.params.logprobs is None else sampled
        return sequence.output(now, ids, reason, logprobs=logprobs)

    def _fail(self, sequence: Sequence, error: str, now: float) -> StepOutput:
        self._end(sequence, FinishReason.ERROR)
        if sequence.pinned:
            self._cache.promise_pin(-sequence.num_prompt_tokens)
        self._cache.release(sequence.slot)
        return sequence.output(now, reason=FinishReason.ERROR, error=error)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End ``sequence`` and keep its computed tokens as a cached prefix."""
        self._end(sequence, reason)
        if not sequence.reusable:
            self._cache.release(sequence.slot)
            return
        self._cache.keep(sequence.slot, spare=sequence.background)
        self._ended.append(sequence)

    def _in_turn(self, decoding: list[Sequence], limit: int) -> list[Sequence]:
        """Sequences that decode in this step, where not all may: callers take turns, and each caller's sequences."""
        if len(decoding) <= limit:
            return decoding
        chosen = by_caller(decoding, attrgetter("caller"))[:limit]
        for sequence in chosen:
            self._running[sequence.request_id] = self._running.pop(sequence.request_id)
        return chosen

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        del self._running[sequence.request_id]
        if not sequence.pinned:
            self._waiting.end(sequence)
        if self._speculation is not None:
            self._speculation.forget(sequence.request_id)
        sequence.status, sequence.finish_reason = SequenceStatus.FINISHED, reason

    def _wanted(self) -> list[Sequence]:
        """Running sequences with a waiting client; else sequences in the background; else prefixes to pin."""
        running = list(self._running.values())
        for background in (False, True):
            awaited = {id(waiting.prefix_owner) for waiting in self._waiting.in_turn(background=background)}
            wanted = [s for s in running if not (s.pinned or s.background > background) or id(s) in awaited]
            if wanted:
                return wanted
        return running
