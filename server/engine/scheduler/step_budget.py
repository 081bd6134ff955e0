"""How long a step may be, and which sequences take part. Pure: times are passed in.

The budget of a step is small enough that streaming clients do not notice it.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import NamedTuple

from glmserve.engine.sequence import Sequence

ROWS = 16
"""Steps are a multiple of this number of tokens. Two cores, 0.9B q4_0: 16, 32 and 48 tokens run at 131, 145 and 145 a
second, 15 at 93, 24 at 124, 31 at 118, 64 and 128 at 125: ggml's kernels take rows by four, its threads share them."""

KNEE = 32
"""Tokens up to which a step may take ``BEYOND`` times its target. Two slow cores with AVX2, 0.9B q4_k_m, behind 300
tokens: 16 take 357 ms, 32 617, 64 1,083. Chats of five turns took 31.8 s with 32, and 35.7 with 16."""

BEYOND = 3
"""A step of ``KNEE`` tokens that takes longer than this many targets is too long a pause for what it saves."""

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

APART = 6
"""How much longer a step of prompts alone may be: ``ANSWER_STEPS`` tokens come at once after it. In steps of 16 tokens,
streams have as many tokens a second, and the prompts take 1.5 times as long (0.9B on two slow cores: 25 ms a token, not
16). With 4, a busy host changed between both ways all the time."""

LONG = 4
"""Tiles that a prompt must have to be computed apart. Attention is what that saves, and a short one has little;
answers beside it take a third of the time that they take by themselves (one row 20 ms, of 32 each 7)."""

SHARED = 2
"""Cells in use for each computed token of a short prompt, up to which it is worth such steps, too: attention in tiles
visits all cells, at less than half of the cost. Two cores with AMX, 0.9B, eight prompts that share 820 cells: 64
tokens take 254 ms in one step, 358 in two of 32 and 421 in four of 16."""

UNTILED = 4
"""By how many tokens a step of many sequences stays below a tile. In tiles, attention visits the cells of all of them:
with 64 short chats of the embedded model, 80 rows took 8 ms in the beginning and 50 ms later, and 60 rows 17 to 20."""

_NEWEST_WEIGHT = 0.25
"""Weight of the newest observation in the moving average."""

TURNS_FROM = 5
"""Decoding sequences from which turns are tried: four rows are one tile, so fewer are never faster."""

TRIES = 2
"""Steps of each number of sequences that are timed; the faster one counts, as a step may be slow by chance."""

FRESH = 128
"""Steps after which a number is timed again: answers have become longer, and attention dearer."""

TURNS_GAIN = 1.05
"""How much faster turns must be, as a token then waits for two steps."""


@dataclass(frozen=True, slots=True)
class StepBudget:
    """Room of a step."""

    budget: int
    """Tokens, where answers and prompts are computed together."""
    apart: int = 0
    """Prompt tokens of a step without answers."""
    long_from: int = 0
    """Tokens to compute of a prompt that is worth such steps (see ``SHARED`` for shorter ones); there are none where
    fewer than ``apart`` tokens of such prompts wait."""
    answers_next: bool = False
    """Whether it is the turn of the answers, where they are computed apart."""
    at_once: int = 256
    """Sequences that decode in a step without prompts; more take turns."""
    untiled: int = 0
    """Most tokens of a step in which attention visits no cells of other sequences; 0 where it always does."""

    def share(self, running: list[Sequence], cells: int) -> "Share":
        """Return which of the ``running`` sequences take part in the step, while ``cells`` are in use."""
        decoding = [sequence for sequence in running if sequence.is_decoding]
        catching_up = [sequence for sequence in running if not sequence.is_decoding]
        if not decoding or not catching_up:
            return Share(decoding, catching_up, self.budget, self.at_once)
        waiting = sum(s.num_uncomputed_tokens for s in catching_up if self._is_worth_tiles(s, cells))
        if 0 < self.apart <= waiting:
            return self._alternate(decoding, catching_up)
        is_too_large = 0 < self.untiled < self.budget and waiting <= self.untiled
        if is_too_large and not all(_has_most(sequence, cells) for sequence in decoding):
            return Share(decoding, catching_up, self.untiled, self.untiled - ROWS)
        return Share(decoding, catching_up, self.budget)

    def _alternate(self, decoding: list[Sequence], catching_up: list[Sequence]) -> "Share":
        if self.answers_next:
            return Share(decoding, [], self.budget, self.at_once)
        return Share([], catching_up, self.apart)

    def _is_worth_tiles(self, sequence: Sequence, cells: int) -> bool:
        is_long = sequence.num_prompt_tokens - sequence.cached_tokens >= self.long_from
        return is_long or _has_most(sequence, cells)


class Share(NamedTuple):
    """The sequences of a step."""

    decoding: list[Sequence]
    catching_up: list[Sequence]
    """In prefill."""
    tokens: int
    """Of all of them."""
    at_once: int = 256
    """Sequences that decode; more take turns."""


def _has_most(sequence: Sequence, cells: int) -> bool:
    """Whether half of the ``cells`` are its own, so that attention over all of them is cheap enough."""
    return cells <= SHARED * sequence.num_computed_tokens


class DecodeTurns:
    """Learns how many of the decoding sequences a step should have, where others follow in the next one.

    ggml computes rows in tiles, so a step with a few rows more may take much longer. Two cores with AVX2, 0.9B q4_k_m,
    behind 160 tokens: 4 answers take 80 ms, 7 141, 8 185, 16 233, 17 309. Eight are answered faster as two times four.
    """

    def __init__(self, untiled: int = 0) -> None:
        """Nothing is known. ``untiled`` is a number to try, too, unless it is 0: see ``StepBudget``."""
        self._untiled = untiled
        self._steps = 0
        self._tries: dict[int, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=TRIES))

    def observe(self, sequences: int, seconds: float) -> None:
        """Learn from a step that decoded ``sequences`` and had no prompts."""
        self._steps += 1
        self._tries[sequences].append((self._steps, seconds))

    def at_once(self, decoding: int) -> int:
        """Return how many of ``decoding`` sequences give the most tokens a second.

        A number that was not timed lately is tried.
        """
        if decoding < TURNS_FROM:
            return decoding
        best, rate = decoding, 0.0
        numbers = (decoding, -(-decoding // 2), (decoding - 1) // 4 * 4, min(decoding, self._untiled or decoding))
        for number in numbers:
            seconds = self._seconds(number)
            if seconds is None:
                return number
            per_second = number / seconds / (1.0 if number == decoding else TURNS_GAIN)
            if per_second > rate:
                best, rate = number, per_second
        return best

    def _seconds(self, number: int) -> float | None:
        seconds = [took for at, took in self._tries[number] if at > self._steps - FRESH]
        return min(seconds) if len(seconds) == TRIES else None


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
        self._untiled = tile - UNTILED if tile > UNTILED + ROWS else 0
        self._per_token = 0.0
        self._per_tiled_token = 0.0
        self._unwatched = min(max_tokens, unwatched or max_tokens)
        self._answer_steps = 0
        self._answer_seconds = 0.0
        self._answers_wait = False
        self._turns = DecodeTurns(self._untiled)

    def step_budget(self, decoding: int) -> StepBudget:
        """Plan the next step, while ``decoding`` sequences give answers."""
        self._answers_wait = decoding > 0
        if decoding == 0:
            return StepBudget(self._unwatched)
        budget = self._affordable(self._seconds(), decoding)
        apart = self._apart()
        at_once = self._turns.at_once(decoding)
        return StepBudget(budget, apart, LONG * self._tile, self._answer_steps > 0, at_once, self._untiled)

    @property
    def background_seconds(self) -> float:
        """Target duration of a step while only sequences in the background run."""
        return self.target_seconds * BACKGROUND

    def background_budget(self, decoding: int) -> StepBudget:
        """Plan such a step, while ``decoding`` of them give answers."""
        return StepBudget(self._affordable(self.background_seconds, decoding), untiled=self._untiled)

    def _seconds(self) -> float:
        """Return the seconds of a step that answers and prompts share: its target, or the time of ``KNEE`` tokens."""
        knee = KNEE * self._per_token
        return knee if self.target_seconds < knee <= BEYOND * self.target_seconds else self.target_seconds

    def _affordable(self, seconds: float, decoding: int) -> int:
        """Return how many tokens a step of ``seconds`` may have, which are enough for the answers and some more."""
        affordable = seconds / self._per_token if self._per_token else 0.0
        least = -(-(decoding + MIN_CHUNK) // ROWS) * ROWS
        return min(self.max_tokens, max(least, round(affordable / ROWS) * ROWS))

    def observe(self, seconds: float, prompt: int, answers: int, sequences: int = 0) -> None:
        """Learn from a step of ``prompt`` and ``answers`` tokens (drafts too) that took ``seconds``.

        ``sequences`` had the answers.
        """
        self._give_turns(seconds, prompt, answers)
        if sequences and not prompt:
            self._turns.observe(sequences, seconds)
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
            self._answer_steps = ANSWER_STEPS if self._answers_wait else 0
            self._answer_seconds = ANSWER_SHARE * seconds
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
