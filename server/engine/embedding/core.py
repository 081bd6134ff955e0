"""The engine of an embedding model or a reranker: inputs of several requests in a batch, a vector or score for each."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from glmserve.engine.messages import Embed, Embedded, EngineInfo, EngineStats, StepReport
from glmserve.engine.model_runner import DecodeError
from glmserve.engine.scheduler.waiting_queue import by_caller


class EmbeddingRunner(ABC):
    """Interface between the core and an embedding model: the real llama.cpp, or a scripted one in tests."""

    info: EngineInfo
    """Facts of the loaded model; its ``embedding_size`` is above 0."""
    most_tokens: int
    """Of one batch; as many as the longest input has, at least."""
    usual_tokens: int
    """Of a batch of several inputs; one that is longer is computed alone."""
    most_inputs: int
    """Of one batch."""

    @abstractmethod
    def embed(self, inputs: Sequence[tuple[int, ...]]) -> tuple[bytes, ...]:
        """Return a vector for each input, as float32 in the machine's order; a reranker's has one number.

        Raises DecodeError.
        """

    @abstractmethod
    def self_test(self) -> None:
        """Make a few vectors and compare. Raises SelfTestFailed."""

    @abstractmethod
    def close(self) -> None:
        """Free everything."""


@dataclass(eq=False, slots=True)
class _Job:
    """A request: its inputs in batches so far, and their results."""

    request: Embed
    taken: int = 0
    vectors: list[bytes] = field(default_factory=list)

    @property
    def has_inputs(self) -> bool:
        return self.taken < len(self.request.inputs)


class EmbeddingCore:
    """Takes requests, and computes a batch of their inputs at a time.

    It takes an input of each caller in turn, and of each of its requests, so that one of thousands does not keep a
    single one waiting.
    """

    def __init__(self, runner: EmbeddingRunner) -> None:
        """Drive ``runner``."""
        self._runner = runner
        self._jobs: deque[_Job] = deque()
        self._tokens = 0
        self._steps = 0

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would compute anything."""
        return bool(self._jobs)

    @property
    def stats(self) -> EngineStats:
        """A snapshot; every request counts as running."""
        return EngineStats(running=len(self._jobs), prompt_tokens=self._tokens, steps=self._steps)

    def submit(self, request: Embed) -> None:
        """Queue a request, which has at least one input."""
        self._jobs.append(_Job(request))

    def abort(self, request_id: int) -> None:
        """Drop a request, if it is still there."""
        self._jobs = deque(job for job in self._jobs if job.request.request_id != request_id)

    def step(self) -> StepReport[Embedded]:
        """Compute one batch."""
        batch = self._next_batch()
        self._steps += 1
        outputs: list[Embedded] = []
        vectors = self._embed([job.request.inputs[index] for job, index in batch])
        for (job, index), vector in zip(batch, vectors, strict=True):
            if job not in self._jobs:
                continue  # another of its inputs has failed
            if isinstance(vector, DecodeError):
                outputs.append(Embedded(job.request.request_id, error=f"input {index}: {vector}"))
                self._jobs.remove(job)
                continue
            job.vectors.append(vector)
            if len(job.vectors) == len(job.request.inputs):
                outputs.append(Embedded(job.request.request_id, tuple(job.vectors)))
                self._jobs.remove(job)
        return StepReport(tuple(outputs), self.stats)

    def _embed(self, inputs: Sequence[tuple[int, ...]]) -> list[bytes | DecodeError]:
        """Compute ``inputs``, in ever smaller parts where that fails, so that a bad input fails alone."""
        try:
            return list(self._runner.embed(inputs))
        except (DecodeError, MemoryError) as error:
            if len(inputs) == 1:
                return [error if isinstance(error, DecodeError) else DecodeError("there is no memory for it")]
        middle = len(inputs) // 2
        return self._embed(inputs[:middle]) + self._embed(inputs[middle:])

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Take inputs of the requests in turn, as long as they fit."""
        batch: list[tuple[_Job, int]] = []
        tokens = 0
        urgent = [job for job in self._jobs if not job.request.background]
        turn = deque(by_caller(urgent or self._jobs, lambda job: job.request.caller))
        while turn and len(batch) < self._runner.most_inputs:
            job = turn.popleft()
            size = len(job.request.inputs[job.taken])
            if batch and tokens + size > self._runner.usual_tokens:
                break
            batch.append((job, job.taken))
            job.taken += 1
            tokens += size
            if job.has_inputs:
                turn.append(job)
        self._tokens += tokens
        self._jobs.rotate(-1)
        return batch
