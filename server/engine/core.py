"""One step after another: schedule, decode, sample, update."""

import time
from collections.abc import Callable

from server.engine.backend import Backend, DecodeError
from server.engine.batch import Batch, BatchItem
from server.engine.errors import QueueFull
from server.engine.messages import EngineStats, FinishReason, SampledToken, StepOutput, StepReport, Submit
from server.engine.pacing import StepPacer
from server.engine.scheduler import Scheduler, SchedulerConfig
from server.engine.sequence import Sequence
from server.engine.variants import PLAIN

_Sampled = dict[int, tuple[SampledToken, ...]]
"""By request id."""


class EngineCore:
    """The engine without a process around it."""

    def __init__(
        self,
        backend: Backend,
        max_waiting: int,
        pacer: StepPacer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Drive ``backend``; ``clock`` gives seconds."""
        info = backend.info
        self._backend = backend
        self._context_length = info.context_length
        self._scheduler = Scheduler(
            SchedulerConfig(
                parallel=info.parallel,
                slots=backend.slots,
                cells=info.cache_cells,
                max_waiting=max_waiting,
                stop_ids=backend.stop_ids,
            )
        )
        for name, variant in backend.variants.items():
            if variant.prefix_length:
                backend.lay_prefix(name, self._scheduler.hold(variant.prefix_tokens))
        self._pacer = pacer
        self._clock = clock

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would compute anything."""
        return self._scheduler.has_work

    @property
    def stats(self) -> EngineStats:
        """A snapshot."""
        return self._scheduler.stats

    def submit(self, message: Submit) -> StepOutput | None:
        """Queue a request; return its last output at once if it cannot be."""
        variant = self._backend.variants.get(message.variant, PLAIN)
        prompt = variant.key(message.prompt_ids)
        room = self._context_length - len(prompt)
        if room < 1 or not message.prompt_ids:
            error = f"a prompt of {len(prompt)} tokens in a context of {self._context_length}"
            return StepOutput(message.request_id, finish_reason=FinishReason.ERROR, error=error)
        max_tokens = min(message.params.max_tokens, room)
        sequence = Sequence(message.request_id, prompt, message.params, max_tokens, variant.salt, variant.prefix_length)
        try:
            self._scheduler.add(sequence)
        except QueueFull as error:
            return StepOutput(message.request_id, finish_reason=FinishReason.ERROR, error=str(error))
        return None

    def abort(self, request_id: int) -> None:
        """Stop a request, if it still runs."""
        if self._scheduler.abort(request_id):
            self._backend.close_sampler(request_id)

    def step(self) -> StepReport:
        """Compute one batch."""
        batch = self._scheduler.schedule(self._pacer.budget(self._scheduler.decoding))
        for op in batch.ops:
            self._backend.apply(op)
        for sequence in batch.admitted:
            self._backend.open_sampler(sequence.request_id, sequence.params, sequence.real_prompt_ids)
        sampled, failed = self._compute(batch)
        outputs = self._scheduler.update(batch, sampled, failed)
        for output in outputs:
            if output.finish_reason is not None:
                self._backend.close_sampler(output.request_id)
        return StepReport(tuple(outputs), self._scheduler.stats)

    def check_integrity(self) -> None:
        """Check the scheduler's books. Raises AssertionError."""
        self._scheduler.check_integrity()

    def _compute(self, batch: Batch) -> tuple[_Sampled, dict[int, str]]:
        """Decode and sample; tokens by request id, and errors by request id."""
        if not batch.items:
            return {}, {}
        started = self._clock()
        try:
            sampled = self._decode(batch.items)
        except DecodeError:
            return self._compute_apart(batch)
        decoding = sum(item.sequence.is_decoding for item in batch.items)
        self._pacer.observe(self._clock() - started, decoding, batch.num_tokens - decoding)
        return sampled, {}

    def _compute_apart(self, batch: Batch) -> tuple[_Sampled, dict[int, str]]:
        """Decode each item by itself, so that the one that cannot be decoded hurts nobody else."""
        sampled: _Sampled = {}
        failed: dict[int, str] = {}
        for item in batch.items:
            try:
                sampled.update(self._decode((item,)))
            except DecodeError as error:
                failed[item.sequence.request_id] = str(error)
        return sampled, failed

    def _decode(self, items: tuple[BatchItem, ...]) -> _Sampled:
        self._backend.decode(items)
        return {item.sequence.request_id: self._sample(item) for item in items if item.samples}

    def _sample(self, item: BatchItem) -> tuple[SampledToken, ...]:
        """Sample after the item's tokens, and after each draft as long as they come true."""
        sampled = [self._backend.sample(item)]
        for draft in item.drafts:
            if sampled[-1].token_id + item.sequence.salt != draft:
                break
            sampled.append(self._backend.sample(item, len(sampled)))
        return tuple(sampled)
