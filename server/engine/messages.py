"""Messages across the process boundary: parent to worker, worker to parent. Pickled, so plain and frozen.

What there is for each token is a named tuple, which is made and pickled in a third of a dataclass's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from glmserve.engine.params import SamplingParams


class FinishReason(str, Enum):
    """Why a sequence ended. A stop string is found by the API side, which reports it as STOP."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PrefixScope:
    """Which other requests may reuse the cells of a prompt from the prefix cache: all by default.

    Prefixes that the operator pinned are shared in any case.
    """

    owner: str = ""
    """Only requests of this owner, if any."""
    bucket: str = ""
    """Only requests of the owner with the same bucket."""
    common: int = 0
    """Tokens at the prompt's beginning that all owners share as a whole: a match needs all of them."""
    salt: str = ""
    """Requests with another salt share nothing, not even the common tokens."""


EVERYBODY = PrefixScope()


@dataclass(frozen=True, slots=True)
class Submit:
    """Parent to worker: run this sequence. ``request_id`` is unique for the life of the engine client."""

    request_id: int
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: str = ""
    """Name of the adapter; empty for the model as it is."""
    caller: str = ""
    """Callers take turns."""
    scope: PrefixScope = EVERYBODY
    answered: int = 0
    """How many of the last ``prompt_ids`` are tokens of the answer, which an earlier process computed."""
    background: bool = False
    """To be computed only while no request of a waiting client is."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Parent to worker: the client has left this sequence."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Pin:
    """Parent to worker: keep this beginning of prompts in the cache for ever."""

    prompt_ids: tuple[int, ...]
    adapter: str = ""
    if_saved: bool = False
    """Only where its state lies on the disk: it was pinned once before."""


@dataclass(frozen=True, slots=True)
class Embed:
    """Parent to worker: make a vector, or a score, of each of these inputs, which are token ids."""

    request_id: int
    inputs: tuple[tuple[int, ...], ...]
    caller: str = ""
    """Callers take turns."""
    background: bool = False
    """As that of ``Submit``."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Parent to worker: end now."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Capabilities of an engine, known once its model is loaded."""

    context_length: int
    """Tokens that one sequence may have, prompt and answer together."""
    cache_cells: int
    """Tokens that all sequences and cached prefixes together may hold."""
    parallel: int
    vocab_size: int
    device: str
    """In words, such as "CPU, 2 threads"."""
    load_seconds: float
    prefix_tokens: Mapping[str, int] = field(default_factory=dict)
    """How much of the context the P-Tuning prefix of each adapter takes."""
    max_waiting: int = 64
    """Requests that may wait beside the running ones."""
    embedding_size: int = 0
    """Numbers of a vector; 1 of a reranker, 0 of a model that generates."""
    ranks: bool = False
    """It is a reranker: its only number is the score of a pair of texts."""
    normalizes: bool = True
    """The authors of the embedding model scale its vectors to length 1."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to parent: the model is loaded."""

    info: EngineInfo


@dataclass(frozen=True, slots=True)
class SelfTesting:
    """Worker to parent: the model is in memory, and is tried before it is Ready."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Worker to parent: the model cannot be loaded; the worker ends after this."""

    reason: str
    self_test: bool = False
    """It was loaded, but computes wrong: another compute mode may do better."""


GRAMMAR_FAILED = "its grammar: "
"""How the error of a ``StepOutput`` begins where the grammar is to blame."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot after a step."""

    running: int = 0
    waiting: int = 0
    cells_used: int = 0
    """Cells that hold a running sequence or a cached prefix."""
    tokens_parked: int = 0
    """Of cached prefixes that lie outside the cells."""
    cells_running: int = 0
    """Cells that running sequences hold or have reserved, and cells of pinned prefixes."""
    cells_held: int = 0
    """Tokens of pinned prefixes and P-Tuning prefixes, including prefixes still to be computed."""
    pins_restored: int = 0
    """Pinned prefixes whose state was read from the disk."""
    pins_computed: int = 0
    """Pinned prefixes that were computed."""
    prompts_saved: int = 0
    """Prompts, with their answers, whose state was written to the disk."""
    prompts_restored: int = 0
    """States of them that were read again."""
    prompt_tokens: int = 0
    """Prompt tokens of all admitted requests so far, computed or cached."""
    cached_tokens: int = 0
    """Of these, how many came from the prefix cache."""
    generated_tokens: int = 0
    steps: int = 0
    drafted_tokens: int = 0
    """Draft tokens that were computed."""
    accepted_tokens: int = 0
    """Draft tokens that were accepted."""
    checks: int = 0
    """Number of successful integrity checks of the index against the model runner."""


class SampledToken(NamedTuple):
    """A token at its place in a sequence."""

    token_id: int
    logprob: float | None = None
    """The natural logarithm of its probability, where the sequence asks for it."""
    top: tuple[SampledToken, ...] = ()
    """The most probable tokens at this place, the first one first."""
    final: bool = False
    """The grammar allows no further token, so the answer ends here."""


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How far a sequence without a token is."""

    total: int
    """Tokens of the prompt."""
    cached: int = 0
    """Of these, how many came from the prefix cache."""
    processed: int = 0
    """Of these, how many are computed or cached."""
    seconds: float = 0.0
    """Since its admission."""
    position: int = 0
    """Place in the queue, the first one being 1; 0 once it is admitted."""
    expected_wait: float | None = None
    """Seconds until its admission, where the client can tell."""


class StepOutput(NamedTuple):
    """Output of one step for one sequence; the one with a ``finish_reason`` is its last."""

    request_id: int
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache; the same in every output of a sequence."""
    error: str = ""
    logprobs: tuple[SampledToken, ...] = ()
    """The tokens again with their log-probabilities, where the sequence asks for them; else empty."""
    prompt_logprobs: tuple[SampledToken, ...] = ()
    """Where the sequence asks for them: the next tokens of the prompt. The first one of all has no log-probability."""
    queue_seconds: float = 0.0
    """From its submission to its admission; the same in every output of a sequence."""
    run_seconds: float = 0.0
    """From its admission to the end of this step."""
    progress: PromptProgress | None = None
    """Where the sequence asks for it, and has no token yet; such an output has nothing else."""
    disturbed: bool = False
    """It has a seed, but its tokens may depend on what else was computed."""


class Embedded(NamedTuple):
    """All vectors of a request, as float32 in native byte order; or the error."""

    request_id: int
    vectors: tuple[bytes, ...] = ()
    error: str = ""


OutputT_co = TypeVar("OutputT_co", bound=StepOutput | Embedded, covariant=True)


@dataclass(frozen=True, slots=True)
class StepReport(Generic[OutputT_co]):
    """Worker to parent: all outputs of one step, in one message. Each core has one type of output."""

    outputs: tuple[OutputT_co, ...]
    stats: EngineStats | None = None
    """None where the last ones still tell enough: nothing came or ended, and they are a few steps old."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Worker to parent, which writes the log of both: a line of it."""

    level: int
    logger: str
    text: str
    created: float
    """Seconds since the epoch."""
    traceback: str = ""
    request_id: int | None = None
    """The request that it is about, where it is about one."""


ToWorker = Submit | Embed | Abort | Pin | Shutdown
FromWorker = SelfTesting | Ready | LoadFailed | StepReport[StepOutput | Embedded] | Logged


def is_answer(output: StepOutput | Embedded) -> bool:
    """Whether something was computed; a process that only reports failures is no better than a dead one."""
    return bool(output.vectors if isinstance(output, Embedded) else output.token_ids or output.prompt_logprobs)
