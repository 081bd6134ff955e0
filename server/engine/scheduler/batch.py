"""The content of one step, and its token budget. Pure: times are passed in.

A step has cache operations, then the tokens of one ``llama_decode``; the budget is small enough that streaming clients
do not notice it.
"""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One sequence's share of a batch: ``tokens`` at positions from ``start`` on."""

    sequence: Sequence
    slot: int
    start: int
    tokens: tuple[int, ...]
    """As the prefix cache knows them; the model computes ``ids``."""
    samples: bool
    """Whether these are all tokens it has, so that the last one's logits give the next."""

    drafts: tuple[int, ...] = ()
    """Draft tokens that follow, computed in the same batch and sampled as long as they are accepted. Never a stop
    token, and only where the item samples."""

    @property
    def num_tokens(self) -> int:
        """Tokens and drafts. Asked several times for each step, so nothing is put together for it."""
        return len(self.tokens) + len(self.drafts)

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens and drafts as the model's vocabulary has them."""
        salt, tokens = self.sequence.salt, self.tokens + self.drafts
        return tuple(token - salt for token in tokens) if salt else tokens

    @property
    def scores(self) -> bool:
        """Whether the probabilities of the prompt's tokens are wanted, so that all its logits are."""
        return self.sequence.params.prompt_logprobs is not None and self.start < self.sequence.num_prompt_tokens

    @property
    def following_prompt_ids(self) -> tuple[int, ...]:
        """The prompt's tokens that follow each of ``tokens``, as the model's vocabulary has them."""
        following = self.sequence.prompt_ids[self.start + 1 : self.start + 1 + len(self.tokens)]
        return tuple(token - self.sequence.salt for token in following)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: ``ops`` in order, then ``admitted`` get a sampler, then ``items`` are decoded together."""

    ops: tuple[CacheOp, ...]
    admitted: tuple[Sequence, ...]
    items: tuple[BatchItem, ...]
    preempted: tuple[Sequence, ...] = ()
    """Sequences that gave up their place and lose their sampler, to be queued again."""


SCORED_PER_STEP = 64
"""Tokens of a prompt that are scored in one step: each needs a row of logits, 260 kB for ChatGLM2's vocabulary."""

_TURNS = 4
"""Steps with prompts of which one begins with the oldest."""


def item_of(sequence: Sequence, count: int, drafts: tuple[int, ...] = ()) -> BatchItem:
    """Return the next ``count`` tokens of ``sequence`` as its share of a batch, and ``drafts`` after them."""
    start = sequence.num_computed_tokens
    tokens = tuple(sequence.tokens[start : start + count])
    samples = start + count == len(sequence.tokens) and not sequence.pinned
    return BatchItem(sequence, sequence.slot, start, tokens, samples, drafts)


def _with_one_scored(sequences: list[Sequence]) -> list[Sequence]:
    """Leave out all sequences whose prompts are scored but the first: their logits need memory."""
    scored = [sequence for sequence in sequences if sequence.params.prompt_logprobs is not None]
    return [sequence for sequence in sequences if sequence not in scored[1:]]


def _next_chunk(sequence: Sequence) -> int:
    """Return how many tokens of the sequence one step may compute."""
    left = sequence.num_next_tokens
    return left if sequence.params.prompt_logprobs is None else min(left, SCORED_PER_STEP)


class ChunkedPrefill:
    """Whose prompt comes first in a step: in three of four the one with the shortest rest, in the fourth the oldest.

    A short question does not wait behind a long document, and the document is not starved by short questions. A step is
    for one of them as far as it goes, as attention on a CPU may compute the tokens of each with the cells of both.
    """

    def __init__(self) -> None:
        """Begin with the oldest."""
        self._steps = 0

    def chunks(self, sequences: list[Sequence], room: int) -> list[BatchItem]:
        """Share ``room`` tokens among the prompts of ``sequences``, of which the first is the oldest."""
        items = []
        for sequence in self.in_turn(sequences):
            count = min(_next_chunk(sequence), room)
            room -= count
            if count:
                items.append(item_of(sequence, count))
        return items

    def in_turn(self, sequences: list[Sequence]) -> list[Sequence]:
        """Return ``sequences``, of which the first is the oldest, in the order in which their prompts are computed."""
        oldest = sequences[:1] if self._steps % _TURNS == 0 else []
        self._steps += bool(sequences)
        shortest = sorted(_with_one_scored(sequences), key=lambda s: s.num_uncomputed_tokens)
        return list(dict.fromkeys(oldest + shortest))


class AdapterRotation:
    """llama.cpp's adapters are set for a whole batch, so they take turns, each after the one that ran longest ago."""

    def __init__(self) -> None:
        """No adapter has had a turn."""
        self._last = -1

    def next_of(self, sequences: Ordered[Sequence]) -> list[Sequence]:
        """Return the ``sequences`` of the adapter in turn."""
        salts = {sequence.salt for sequence in sequences}
        if salts:
            self._last = min((salt for salt in salts if salt > self._last), default=min(salts))
        return [sequence for sequence in sequences if sequence.salt == self._last]


ROWS = 16
"""Steps are a multiple of this number of tokens. Two cores, 0.9B q4_0: 16, 32 and 48 tokens run at 131, 145 and 145 a
second, 15 at 93, 24 at 124, 31 at 118, 64 and 128 at 125: ggml's kernels take rows by four, its threads share them."""

MIN_CHUNK = 8
"""Prompt tokens that a step has room for at least, so that prompts never stand still."""

UNWATCHED = 2
"""Factor of a step's duration where no client streams: a new request waits for the end of the step."""

LEAST_UNWATCHED = 64
"""Minimum of prompt tokens in such a step: one tile; late in a prompt of 800 tokens it saves a tenth."""

BACKGROUND = 1 / 8
"""Part of the target time that a step in the background may take: a request that comes waits for half of one."""

ANSWER_STEPS = 3
"""Steps that answers get after one of prompts alone: a character may be three tokens, and waits for one such step."""

ANSWER_SHARE = 0.5
"""They end sooner where they took this part of the time of the prompts' step."""

APART = 4
"""How much longer a step of prompts alone may be: ``ANSWER_STEPS`` tokens come at once after it."""

LONG = 4
"""Tiles that a prompt must have to be computed apart. Attention is what that saves, and a short one has little;
answers beside it take a third of the time that they take by themselves (one row 20 ms, of 32 each 7)."""

_NEWEST_WEIGHT = 0.25
"""Weight of the newest observation in the moving average."""


@dataclass(frozen=True, slots=True)
class StepBudget:
    """Room of a step."""

    budget: int
    """Tokens, where answers and prompts are computed together."""
    apart: int = 0
    """Prompt tokens of a step without answers."""
    long_from: int = 0
    """Tokens of a prompt that is worth such steps; there are none where fewer than ``apart`` of such prompts wait."""
    answers_next: bool = False
    """Whether it is the turn of the answers, where they are computed apart."""

    def share(self, running: list[Sequence]) -> tuple[list[Sequence], list[Sequence], int]:
        """Return the ``running`` sequences that may decode in the step, the ones in prefill, and the token budget."""
        decoding = [sequence for sequence in running if sequence.is_decoding]
        catching_up = [sequence for sequence in running if not sequence.is_decoding]
        long = (s for s in catching_up if s.num_prompt_tokens - s.cached_tokens >= self.long_from)
        waiting = sum(sequence.num_uncomputed_tokens for sequence in long)
        if not decoding or not 0 < self.apart <= waiting:
            return decoding, catching_up, self.budget
        return (decoding, [], self.budget) if self.answers_next else ([], catching_up, self.apart)


class TokenBudgetPolicy:
    """Learns the cost of a token in a batch, and sizes the next step's budget.

    The budget of a step is time, not tokens: on two cores 512 prompt tokens take five seconds.

    Answers and prompts share a step where that is cheaper. Long prompts on a CPU are computed apart from the answers:
    from a *tile* of tokens on, attention takes the tokens of a batch together, each with the cells of all, which
    is a quarter faster than one by one as long as they are of one sequence. Two cores, 0.9B q4_0, a prompt of 768
    tokens beside four answers: chunks of 64 alone run at 120 to 137 tokens a second, chunks of 32 at 104, steps of 16
    at 80.
    """

    def __init__(self, target_seconds: float, max_tokens: int, tile: int = 0, *, unwatched: int = 0) -> None:
        """Keep steps near ``target_seconds`` while a client streams; never plan above ``max_tokens``.

        ``tile`` is the runner's ``attention_tile``, ``unwatched`` the room of the first step where no client streams;
        0 is ``max_tokens``. A large first step takes a minute on a slow machine, and tells no progress till then.
        """
        self.target_seconds = target_seconds
        self.max_tokens = max_tokens
        self._tile = tile
        self._per_token = 0.0
        self._per_tiled_token = 0.0
        self._unwatched = min(max_tokens, unwatched or max_tokens)
        self._answer_steps = 0
        self._answer_seconds = 0.0

    def step_budget(self, decoding: int) -> StepBudget:
        """Plan the next step, while ``decoding`` sequences give answers."""
        if decoding == 0:
            return StepBudget(self._unwatched)
        budget = self._affordable(self.target_seconds, decoding)
        apart = self._apart()
        return StepBudget(budget, apart, LONG * self._tile, self._answer_steps > 0)

    @property
    def background_seconds(self) -> float:
        """Target duration of a step while only sequences in the background run."""
        return self.target_seconds * BACKGROUND

    def background_budget(self, decoding: int) -> StepBudget:
        """Plan such a step, while ``decoding`` of them give answers."""
        return StepBudget(self._affordable(self.background_seconds, decoding))

    def _affordable(self, seconds: float, decoding: int) -> int:
        """Return how many tokens a step of ``seconds`` may have, which are enough for the answers and some more."""
        affordable = seconds / self._per_token if self._per_token else 0.0
        least = -(-(decoding + MIN_CHUNK) // ROWS) * ROWS
        return min(self.max_tokens, max(least, round(affordable / ROWS) * ROWS))

    def observe(self, seconds: float, prompt: int, answers: int) -> None:
        """Learn from a step of ``prompt`` and ``answers`` tokens (drafts too) that took ``seconds``."""
        self._give_turns(seconds, prompt, answers)
        tokens = prompt + answers
        if tokens < ROWS:
            return  # it says nothing of what a token costs
        new = seconds / tokens
        if self._tile and tokens >= self._tile:
            new = self._per_tiled_token = _averaged(self._per_tiled_token, new)
        else:
            new = self._per_token = _averaged(self._per_token, new)
        self._fit_unwatched(new)

    def _apart(self) -> int:
        """Return the prompt tokens of a step without answers: the tiles that fill the target time, if one fits."""
        a_tile = self._tile * self._per_tiled_token
        if not 0 < a_tile <= APART * self.target_seconds:
            return 0
        return min(self.max_tokens // self._tile, max(1, round(self.target_seconds / a_tile))) * self._tile

    def _give_turns(self, seconds: float, prompt: int, answers: int) -> None:
        if not answers:
            self._answer_steps, self._answer_seconds = ANSWER_STEPS, ANSWER_SHARE * seconds
            return
        self._answer_seconds -= seconds
        self._answer_steps = 0 if prompt or self._answer_seconds <= 0 else self._answer_steps - 1

    def _fit_unwatched(self, per_token: float) -> None:
        # In powers of two, and only where it is off by as much, so that a prompt is mostly computed in the same chunks.
        fits = UNWATCHED * self.target_seconds / per_token if per_token else self.max_tokens
        while self._unwatched > max(LEAST_UNWATCHED, 2 * fits):
            self._unwatched = max(LEAST_UNWATCHED, self._unwatched // 2)
        if self._unwatched < fits / 2:
            self._unwatched = min(self.max_tokens, 2 * self._unwatched)


def _averaged(known: float, new: float) -> float:
    return new if known == 0.0 else known + _NEWEST_WEIGHT * (new - known)
