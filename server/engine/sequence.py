"""One request's token history inside the engine."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from enum import Enum

from glmserve.engine.messages import FinishReason, SampledToken, StepOutput
from glmserve.engine.params import SamplingParams, params_after

REPEATABLE_CHUNK = 48
"""Tokens of a repeatable prompt in a step: always the same ones, and none of other sequences. llama.cpp's matrix
kernels for a CPU add in another order in steps of other sizes. From 64 rows on, its attention adds in the order in
which cells lie in tiles; below, in the order of the sequence's own cells."""

REPEATABLE_ROWS = 2
"""Rows of each step in which repeatable sequences are decoded. Attention for a single row adds in parts, one for each
thread."""


class SequenceStatus(str, Enum):
    """WAITING in the queue, RUNNING in a slot, FINISHED for good."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Sequence:
    """Tokens known and tokens computed; there is no prefill phase, only the one catching up with the other."""

    request_id: int
    prompt_ids: tuple[int, ...]
    """As the adapter has them: see ``salt`` and ``num_prefix_tokens``."""
    params: SamplingParams
    max_tokens: int
    """Limit of the answer: from the request, cut to the room in the context."""
    salt: int = 0
    """Added to every token id, as cells computed with an adapter are useless without it."""
    num_prefix_tokens: int = 0
    """How many of the prompt's tokens stand for a P-Tuning prefix; they are negative and always cached."""
    caller: str = ""
    """Who asked for it: callers take turns."""
    num_answered_tokens: int = 0
    """How many of the prompt's last tokens are of the answer, which an earlier process computed."""
    background: bool = False
    """It has turns only while no sequence of a waiting client has any."""
    pinned: bool = False
    """Not a request: its prompt is computed in idle time, nothing is sampled, and its cells stay."""
    prompt_keys: tuple[int, ...] = ()
    """The prompt as the prefix cache knows it (see ``prefix_keys``); by default ``prompt_ids``."""
    key_salt: int = 0
    """Added to each of the tokens that follow, there."""
    num_common_tokens: int = 0
    """How many of the prompt's first tokens other prompts are known to have too: the system message and the tools."""
    checkpoints: tuple[int, ...] | None = None
    """Lengths at which the state is kept for other prompts; None where they may start from any length."""
    repeatable: bool = False
    """Whether its tokens should depend on its prompt and seed alone, and not on what else is computed."""
    disturbed: bool = False
    """Whether they may depend on it after all."""
    reusable: bool = True
    """Whether others may start from its cells: from a repeatable prompt only if all of it was computed as theirs."""
    status: SequenceStatus = SequenceStatus.WAITING
    slot: int = -1
    tokens: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    prefix_owner: Sequence | None = None
    """While waiting: the running sequence that computes a prefix of this prompt just now."""
    prefix_owner_length: int = 0
    """How long that prefix is."""
    bypass_count: int = 0
    """How many began before it because there was no room for it."""
    submitted_at: float = 0.0
    """By the clock of the engine, in seconds."""
    admitted_at: float = 0.0
    was_preempted: bool = False
    """It ran before, and gave its place to the request of a waiting client."""

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt_ids)
        self.prompt_keys = self.prompt_keys or self.prompt_ids

    def keys(self, start: int, tokens: Ordered[int]) -> tuple[int, ...]:
        """Return ``tokens``, which stand at positions from ``start`` on, as the prefix cache knows them."""
        if self.prompt_keys is self.prompt_ids:
            return tuple(tokens)
        of_prompt = self.prompt_keys[start : start + len(tokens)]
        further = tokens[len(of_prompt) :]
        return (*of_prompt, *(token + self.key_salt for token in further))

    @property
    def real_prompt_ids(self) -> tuple[int, ...]:
        """The prompt as the model's vocabulary has it."""
        return tuple(token - self.salt for token in self.prompt_ids[self.num_prefix_tokens :])

    @property
    def answered_ids(self) -> tuple[int, ...]:
        """The tokens at the end of the prompt that are of the answer, as the model's vocabulary has them."""
        return self.real_prompt_ids[-self.num_answered_tokens :] if self.num_answered_tokens else ()

    def wait_again(self) -> None:
        """Become a waiting sequence again, whose prompt is all that it has: of its answer only the rest is to come."""
        answered = self.num_generated_tokens
        keys = self.keys(0, self.tokens)
        is_plain = self.prompt_keys is self.prompt_ids
        self.prompt_ids = tuple(self.tokens)
        self.prompt_keys = self.prompt_ids if is_plain else keys
        self.params, self.max_tokens = params_after(self.params, answered), self.max_tokens - answered
        self.num_answered_tokens += answered
        self.num_computed_tokens, self.slot = 0, -1
        self.disturbed |= self.repeatable
        self.status, self.was_preempted = SequenceStatus.WAITING, True

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt_ids)

    @property
    def num_matchable_tokens(self) -> int:
        """How much of the prompt may come from the cache: to be scored, or sampled after, tokens must be computed."""
        return self.num_prefix_tokens if self.params.prompt_logprobs is not None else self.num_prompt_tokens - 1

    def shareable(self, shared: int) -> int:
        """Return how many of the first ``shared`` tokens another prompt may start from, now or later."""
        if self.checkpoints is None:
            return shared
        return max((place for place in self.checkpoints if place <= shared), default=0)

    @property
    def num_next_tokens(self) -> int:
        """How many tokens one step may compute: up to the next checkpoint."""
        ahead = [place for place in self.checkpoints or () if place > self.num_computed_tokens]
        return min((*ahead, len(self.tokens))) - self.num_computed_tokens

    def next_chunk(self, size: int) -> int:
        """Return how many tokens the next step computes of a repeatable prompt, in chunks of ``size``."""
        return min(self.num_uncomputed_tokens, size - self.num_computed_tokens % size)

    def disturb(self) -> None:
        """Note that the next step is not as it would be without other sequences."""
        if self.repeatable:
            self.disturbed = True
            self.reusable &= self.is_decoding

    @property
    def num_generated_tokens(self) -> int:
        """Tokens sampled so far."""
        return len(self.tokens) - len(self.prompt_ids)

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens that are known but not in the cache; 1 for a sequence that is decoding."""
        return len(self.tokens) - self.num_computed_tokens

    def finish_reason_after(self, last: SampledToken, stop_ids: frozenset[int]) -> FinishReason | None:
        """Return why the sequence ends with its ``last`` token, or None if it goes on."""
        if last.final or (last.token_id in stop_ids and not self.params.ignore_eos):
            return FinishReason.STOP
        return FinishReason.LENGTH if self.num_generated_tokens >= self.max_tokens else None

    def output(
        self,
        now: float,
        token_ids: tuple[int, ...] = (),
        reason: FinishReason | None = None,
        error: str = "",
        *,
        logprobs: tuple[SampledToken, ...] = (),
        prompt_logprobs: tuple[SampledToken, ...] = (),
    ) -> StepOutput:
        """Return the output of a step that ends at ``now``. As cheap as can be: there is one for each token."""
        queued, run = self.admitted_at - self.submitted_at, now - self.admitted_at
        return StepOutput(
            self.request_id, token_ids, reason, self.cached_tokens, error, logprobs, prompt_logprobs, queued, run,
            disturbed=self.disturbed,
        )  # fmt: skip

    @property
    def is_decoding(self) -> bool:
        """Whether it has sampled a token, so that a client may be reading along."""
        return len(self.tokens) > len(self.prompt_ids)

    @property
    def cells_to_come(self) -> int:
        """Cells it may still need; the last token of an answer is never computed."""
        return len(self.prompt_ids) + self.max_tokens - 1 - self.num_computed_tokens
