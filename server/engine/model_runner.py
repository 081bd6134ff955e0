"""Interface between the engine core and a model: the real llama.cpp, or a scripted one in tests."""

from collections.abc import Mapping
from typing import Protocol

from glmserve.engine.kv_cache.ops import CacheOp, CacheSnapshot, CacheTraits
from glmserve.engine.kv_cache.prefix_keys import LoadedAdapter
from glmserve.engine.messages import EngineInfo, SampledToken
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem


class Preparation(Protocol):
    """Work of another thread: the part of a future that the core needs."""

    def done(self) -> bool:
        """Whether it has come to an end."""

    def exception(self) -> BaseException | None:
        """The exception that it ended with, if any."""


class SampleError(Exception):
    """One sequence cannot be sampled from any more."""


class DecodeError(Exception):
    """A batch failed; none of its tokens count as computed."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        """``fatal``: it was not the batch that was wrong, but computing it; whether another one can be is not known."""
        super().__init__(message)
        self.fatal = fatal


class StateLost(Exception):
    """Tokens of a batch that failed cannot be taken back, so the content of the memory is unknown."""


class ModelRunner(Protocol):
    """Computes and samples."""

    @property
    def info(self) -> EngineInfo:
        """Facts of the loaded model."""

    @property
    def slots(self) -> int:
        """How many ``llama_seq_id`` lanes there are."""

    @property
    def cache_traits(self) -> CacheTraits:
        """Capabilities of the model's memory."""

    @property
    def attention_tile(self) -> int:
        """From how many tokens on a batch's attention computes each with the cells of all; 0 where it never does."""

    @property
    def decoding_limit(self) -> int:
        """How many sequences may decode in one batch before it grows slow."""

    @property
    def repeats(self) -> bool:
        """Whether a sequence in a step of few rows has the same outputs in any company."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """End-of-generation tokens."""

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        """Adapters by name."""

    def self_test(self) -> None:
        """Compute a few tokens and compare; nothing is kept of it. Raises SelfTestFailed."""

    def load_prefix(self, adapter: str, slot: int) -> None:
        """Put the P-Tuning prefix of ``adapter`` into the empty ``slot``."""

    def state_fingerprint(self, adapter: str) -> str:
        """Return text that differs wherever a sequence state of ``adapter`` would not fit or not be the same."""

    def read_state(self, slot: int) -> bytearray:
        """Return the state of all cells of ``slot``."""

    def write_state(self, slot: int, state: bytearray) -> bool:
        """Restore a state of ``read_state`` into the empty ``slot``.

        False where it does not fit; then it stays empty.
        """

    def read_copy(self, key: int) -> bytearray:
        """Return the state of an offloaded prefix, which must not be changed."""

    def put_copy(self, key: int, state: bytearray) -> None:
        """Keep ``state``, which ``read_state`` has returned once, as if it had been offloaded as ``key``."""

    def apply(self, op: CacheOp) -> None:
        """Carry out a cache operation."""

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Preparation:
        """Compile the grammar of a sequence in a thread, before ``open_sampler``; done when it may be admitted.

        ``answer_ids`` are the tokens of the answer that are there already.
        """

    def open_sampler(
        self, request_id: int, params: SamplingParams, prompt_ids: tuple[int, ...], answered: int = 0
    ) -> None:
        """Make the sampler of a sequence that was admitted; the last ``answered`` of its prompt are of its answer."""

    def close_sampler(self, request_id: int) -> None:
        """Free it, if there is one."""

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        """Compute the tokens of ``items``, all of one salt, in one batch. Raises DecodeError or StateLost."""

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:
        """Sample the token after the tokens and ``draft`` drafts of an item of the last batch that ``samples``.

        Raises SampleError.
        """

    def score_prompt(self, item: BatchItem) -> tuple[SampledToken, ...]:
        """Score the next prompt tokens of an item of the last batch that ``scores``."""

    def kept(self) -> CacheSnapshot:
        """Return the state for the integrity check."""

    def close(self) -> None:
        """Free everything."""
