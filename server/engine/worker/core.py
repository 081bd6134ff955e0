"""One step after another: schedule, decode, sample, update."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from glmserve.engine.child_process import about
from glmserve.engine.kv_cache.ops import IDLE_CELLS, CacheOp
from glmserve.engine.kv_cache.prefix_keys import PLAIN, PrefixKeys
from glmserve.engine.kv_cache.prompt_files import PromptFiles
from glmserve.engine.messages import (
    GRAMMAR_FAILED,
    EngineStats,
    FinishReason,
    Pin,
    SampledToken,
    StepOutput,
    StepReport,
    Submit,
)
from glmserve.engine.model_runner import DecodeError, ModelRunner, Preparation, SampleError
from glmserve.engine.scheduler.batch import Batch, BatchItem
from glmserve.engine.scheduler.scheduler import Scheduler, SchedulerConfig
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import REPEATABLE_CHUNK, Sequence
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.pinned_prefixes import PinnedPrefixes, States
from glmserve.engine.worker.progress import ProgressReports
from glmserve.engine.worker.prompt_disk import PromptDisk

log = logging.getLogger(__name__)

_MOST_FATAL = 3
"""Sequences in a row that could not be decoded, by no fault of their own, with none between that could."""


class EngineCorrupted(Exception):
    """Nothing can be computed any more, or not rightly: a GPU is gone, say. A fresh process may do better."""


@dataclass(slots=True)
class _Outcome:
    """Result of a batch."""

    sampled: dict[int, tuple[SampledToken, ...]] = field(default_factory=dict)
    """By request id."""
    failed: dict[int, str] = field(default_factory=dict)
    """Why, by request id."""
    scores: list[tuple[Sequence, tuple[SampledToken, ...]]] = field(default_factory=list)
    """Of tokens of the prompts."""
    whole: bool = True
    """Whether it was computed in one."""


@dataclass(frozen=True, slots=True)
class _Preparing:
    """A sequence that is queued when both are done; where the disk fails, it is computed."""

    sequence: Sequence
    grammar: Preparation | None
    restored: Preparation | None

    @property
    def is_done(self) -> bool:
        return all(part is None or part.done() for part in (self.grammar, self.restored))


_STATS_STEPS = 16
"""Number of steps after which the statistics are sent even if nothing else is. Telling them each time costs a fast step
half a percent: the caches of the processor are full of weights when a step ends."""


class EngineCore:
    """The engine without a process around it."""

    def __init__(
        self,
        runner: ModelRunner,
        policy: TokenBudgetPolicy,
        *,
        speculation: SpeculativeController | None = None,
        clock: Callable[[], float] = time.monotonic,
        states: States | None = None,
        prompts: PromptFiles | None = None,
        idle_cells: int = IDLE_CELLS,
        deterministic: bool = False,
    ) -> None:
        """Drive ``runner``; ``clock`` gives seconds.

        ``states`` keeps pinned prefixes, and ``prompts`` all others, from one start to the next. Without
        ``speculation`` nothing is drafted. ``deterministic``: answers without a seed are repeatable, too.
        """
        self._runner = runner
        self._context_length = runner.info.context_length
        self._chunk = min(REPEATABLE_CHUNK, policy.max_tokens)
        self._scheduler = Scheduler(_scheduler_config(runner, idle_cells, self._chunk), speculation)
        self._speculation = speculation
        self._deterministic = deterministic
        self._prefix_keys = PrefixKeys(prompts.secret if prompts else secrets.token_bytes(32), secrets.token_hex(16))
        for name, adapter in runner.adapters.items():
            if adapter.prefix_length:
                runner.load_prefix(name, self._scheduler.pin_slot(adapter.prefix_tokens))
        self._pins = PinnedPrefixes(runner, self._scheduler, states, self._prefix_keys)
        self._prompts = PromptDisk(runner, self._scheduler, prompts) if prompts else None
        self._preparing: dict[int, _Preparing] = {}
        self._unsampled: dict[int, str] = {}
        """Why there is no sampler for these sequences, which fail with the first tokens that are computed."""
        self._fatal = 0
        self._budget_policy = policy
        self._clock = clock
        self._progress = ProgressReports(clock)
        self._checks = 0

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""
        return self._scheduler.has_work or any(waiting.is_done for waiting in self._preparing.values())

    @property
    def is_preparing(self) -> bool:
        """Whether there will be work without another message: a grammar is compiled, or a state is read."""
        return bool(self._preparing)

    @property
    def stats(self) -> EngineStats:
        """A snapshot."""
        pins, prompts = self._pins, self._prompts
        return replace(
            self._scheduler.stats,
            pins_restored=pins.restored,
            pins_computed=pins.computed,
            prompts_saved=prompts.saved if prompts else 0,
            prompts_restored=prompts.restored if prompts else 0,
            checks=self._checks,
        )

    def pin(self, message: Pin) -> bool:
        """Keep a beginning of prompts in the cache for ever. False where it would leave no room for a request.

        What was not kept on the disk is computed while no request runs, or as soon as one waits for it.
        """
        return self._pins.pin(message)

    def submit(self, message: Submit) -> StepOutput | None:
        """Queue a request; return its last output at once if it cannot be."""
        rejection = self._submit(message)
        if rejection is None:
            self._progress.watch(message.request_id, message.params.progress_seconds)
        return rejection

    def _submit(self, message: Submit) -> StepOutput | None:
        adapter = self._runner.adapters.get(message.adapter, PLAIN)
        prompt = adapter.key(message.prompt_ids)
        room = self._context_length - len(prompt)
        if room < 1 or not message.prompt_ids:
            error = f"a prompt of {len(prompt)} tokens in a context of {self._context_length}"
            return StepOutput(message.request_id, (), FinishReason.ERROR, error=error)
        wanted = self._deterministic or message.params.seed is not None
        repeatable = wanted and self._runner.repeats and (self._deterministic or self._scheduler.takes_repeatable)
        chunk = self._chunk if repeatable else 0
        keys, key_salt = self._prefix_keys.of(prompt, message.scope, adapter.prefix_length, chunk=chunk)
        sequence = Sequence(
            message.request_id,
            prompt,
            message.params,
            min(message.params.max_tokens, room),
            adapter.salt,
            adapter.prefix_length,
            message.caller,
            prompt_keys=keys,
            key_salt=key_salt,
            num_answered_tokens=message.answered,
            submitted_at=self._clock(),
            repeatable=repeatable,
            disturbed=wanted and not repeatable,
            background=message.background,
            num_common_tokens=adapter.prefix_length + message.scope.common if message.scope.common else 0,
        )
        self._queue(sequence)
        return None

    def _queue(self, sequence: Sequence) -> None:
        """Have ``sequence`` wait, once its grammar is compiled and its saved prefix is read from the disk."""
        grammar: Preparation | None = None
        if sequence.params.grammar is not None:
            grammar = self._runner.prepare(sequence.request_id, sequence.params, sequence.answered_ids)
        restored = self._prompts.restore(sequence) if self._prompts else None
        if grammar or restored:
            self._preparing[sequence.request_id] = _Preparing(sequence, grammar, restored)
        else:
            self._scheduler.add(sequence)

    def abort(self, request_id: int) -> None:
        """Stop a request, if it still runs."""
        self._unsampled.pop(request_id, None)
        if self._prompts:
            self._prompts.forget(request_id)
        if self._scheduler.abort(request_id) or self._preparing.pop(request_id, None) is not None:
            self._runner.close_sampler(request_id)

    def step(self) -> StepReport[StepOutput]:
        """Compute one batch."""
        rejected = self._add_prepared()
        batch = self._schedule()
        for sequence in batch.preempted:
            self._runner.close_sampler(sequence.request_id)
            self._queue(sequence)
        self._apply(batch.ops)
        self._open_samplers(batch)
        outcome = self._compute(batch)
        now = self._clock()
        scored = [sequence.output(now, prompt_logprobs=scores) for sequence, scores in outcome.scores]
        outputs = [*rejected, *scored, *self._scheduler.update(batch, outcome.sampled, outcome.failed, now)]
        ended = [output.request_id for output in outputs if output.finish_reason is not None]
        for request_id in ended:
            self._runner.close_sampler(request_id)
        if self._pins.computing:
            self._pins.after_step(batch)
        is_time = self._scheduler.steps % _STATS_STEPS == 0
        if self._prompts and is_time:
            self._prompts.save(idle=False)
        return StepReport((*outputs, *self._reports()), self.stats if ended or batch.admitted or is_time else None)

    def _schedule(self) -> Batch:
        scheduler, policy = self._scheduler, self._budget_policy
        if scheduler.is_background:
            return scheduler.schedule(policy.background_budget(scheduler.decoding), policy.background_seconds)
        budget = policy.step_budget(1 if scheduler.is_unhurried else scheduler.decoding)
        return scheduler.schedule(budget, policy.target_seconds)

    def _reports(self) -> list[StepOutput]:
        """Return the reports of progress that are due."""
        if not self._progress.is_due:
            return []
        return self._progress.due(self._scheduler.waiting, self._scheduler.prefilling)

    def _apply(self, ops: Iterable[CacheOp]) -> None:
        for op in ops:
            self._runner.apply(op)

    def _add_prepared(self) -> list[StepOutput]:
        """Queue the sequences that are prepared; return the last outputs of sequences whose grammar failed."""
        done = [waiting for waiting in self._preparing.values() if waiting.is_done]
        rejected = []
        for waiting in done:
            sequence = waiting.sequence
            del self._preparing[sequence.request_id]
            if self._prompts:
                self._prompts.adopt(sequence)
            failure = waiting.grammar.exception() if waiting.grammar else None
            if failure is not None:
                error = f"{GRAMMAR_FAILED}{failure}"
                rejected.append(StepOutput(sequence.request_id, finish_reason=FinishReason.ERROR, error=error))
            else:
                self._scheduler.add(sequence)
        return rejected

    def save_prompt(self) -> bool:
        """While there is no work: begin to write one more prompt to the disk. False if there is none."""
        return self._prompts is not None and self._prompts.save(idle=True)

    def close(self) -> None:
        """Write the prompts that are not saved yet, as far as a few seconds go."""
        if self._prompts:
            self._prompts.close()

    def check_integrity(self) -> None:
        """Check the index of the cache, and that the model runner matches it exactly. Raises AssertionError."""
        scheduler = self._scheduler
        scheduler.check_integrity()
        self._apply(scheduler.take_ops())
        kept, expected_snapshot = self._runner.kept(), scheduler.expected_snapshot
        assert kept.tokens == expected_snapshot.tokens, "slots have other token counts than the cache index"
        assert kept.copies == expected_snapshot.copies, "the offloaded prefixes differ from the cache index"
        assert kept.samplers == expected_snapshot.samplers - self._unsampled.keys(), "samplers and sequences differ"
        waiting = expected_snapshot.grammars | self._preparing.keys()
        assert kept.grammars <= waiting, "a grammar is kept for a sequence that has ended"
        self._checks += 1

    def _open_samplers(self, batch: Batch) -> None:
        for sequence in batch.admitted:
            sequence.admitted_at = sequence.admitted_at or self._clock()
            if not sequence.pinned:
                try:
                    answered = sequence.num_answered_tokens
                    self._runner.open_sampler(sequence.request_id, sequence.params, sequence.real_prompt_ids, answered)
                except Exception as error:
                    self._unsampled[sequence.request_id] = _reason(error, sequence)

    def _compute(self, batch: Batch) -> _Outcome:
        """Decode and sample. A part that cannot be decoded is halved until the cause fails alone."""
        outcome = _Outcome()
        started = self._clock()
        items = self._sampled_ones(batch.items, outcome)
        parts = [items] if items else []
        while parts:
            part = parts.pop()
            try:
                self._runner.decode(part)
            except (DecodeError, MemoryError) as error:
                outcome.whole = False
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += (part[middle:], part[:middle])
                else:
                    outcome.failed[part[0].sequence.request_id] = self._undecoded(error, part[0])
                continue
            self._fatal = 0
            for item in part:
                self._finish(item, outcome)
        if outcome.whole and not outcome.failed and items:
            self._learn(batch, outcome.sampled, self._clock() - started)
        return outcome

    def _sampled_ones(self, items: tuple[BatchItem, ...], outcome: _Outcome) -> tuple[BatchItem, ...]:
        """Return the items that have a sampler; the others fail."""
        if not self._unsampled:
            return items
        for request_id in {item.sequence.request_id for item in items} & self._unsampled.keys():
            outcome.failed[request_id] = self._unsampled.pop(request_id)
        return tuple(item for item in items if item.sequence.request_id not in outcome.failed)

    def _undecoded(self, error: Exception, item: BatchItem) -> str:
        """Return why one sequence could not be decoded. Raises EngineCorrupted where nothing can be any more."""
        if isinstance(error, DecodeError) and error.fatal:
            self._fatal += 1
            if self._fatal >= _MOST_FATAL:
                raise EngineCorrupted(f"{_MOST_FATAL} sequences in a row could not be computed ({error})") from error
        return _reason(error, item.sequence)

    def _finish(self, item: BatchItem, outcome: _Outcome) -> None:
        """Score and sample the decoded items; an error ends one sequence alone."""
        try:
            if item.scores:
                outcome.scores.append((item.sequence, self._score(item)))
            if item.samples:
                outcome.sampled[item.sequence.request_id] = self._sample(item)
        except Exception as error:
            outcome.failed[item.sequence.request_id] = _reason(error, item.sequence)

    def _learn(self, batch: Batch, sampled: Mapping[int, tuple[SampledToken, ...]], seconds: float) -> None:
        """Report the step's duration to the planners."""
        decoding = [item.sequence for item in batch.items if item.sequence.is_decoding]
        prompt = sum(len(item.tokens) for item in batch.items) - len(decoding)
        self._budget_policy.observe(seconds, prompt, sum(i.num_tokens for i in batch.items) - prompt, len(decoding))
        if self._speculation is None:
            return
        if not prompt:
            accepted = sum(map(len, sampled.values())) - len(decoding)
            self._speculation.observe(len(decoding), accepted, seconds)
        elif not decoding:
            self._speculation.observe_prompt(prompt, seconds)

    def _score(self, item: BatchItem) -> tuple[SampledToken, ...]:
        scores = self._runner.score_prompt(item)
        if item.start == item.sequence.num_prefix_tokens:
            return (SampledToken(item.ids[0]), *scores)
        return scores

    def _sample(self, item: BatchItem) -> tuple[SampledToken, ...]:
        """Sample after the item's tokens, and after each accepted draft token."""
        sampled = [self._runner.sample(item)]
        for draft in item.drafts:
            if sampled[-1].final or sampled[-1].token_id + item.sequence.salt != draft:
                break
            sampled.append(self._runner.sample(item, len(sampled)))
        return tuple(sampled)


def _scheduler_config(runner: ModelRunner, idle_cells: int, repeatable_chunk: int) -> SchedulerConfig:
    info = runner.info
    return SchedulerConfig(
        parallel=info.parallel,
        slots=runner.slots,
        cells=info.cache_cells,
        longest=info.context_length,
        stop_ids=runner.stop_ids,
        decoding_limit=runner.decoding_limit,
        repeatable_chunk=repeatable_chunk,
        idle_cells=idle_cells,
        traits=runner.cache_traits,
    )


def _reason(error: Exception, sequence: Sequence) -> str:
    """Return the error message for the client of ``sequence``, and log it.

    Raises ``error`` if the cache index is inconsistent.
    """
    if isinstance(error, AssertionError):
        raise error
    extra = about(sequence.request_id)
    if isinstance(error, (DecodeError, SampleError)):
        log.warning("a request failed: %s", error, extra=extra)
        return str(error)
    log.error("a request failed with an unexpected error", exc_info=error, extra=extra)
    return "there is no memory for it" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
