"""How a sequence is sampled, and the grammar of its answer: checked once, when made. Pure."""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

WHITE_SPACE = r" |\n {0,12}"
"""At each place of a JSON text that has any: enough to indent, and an end for a model that repeats itself."""
MAX_BYTES = 65536
"""Of a grammar's source. Chains of rules overflow llguidance's stack at several times that."""


class GrammarKind(str, Enum):
    """How a grammar is written; anything else becomes LARK, in llguidance's dialect, before it comes here."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the whole answer of a sequence."""

    kind: GrammarKind
    source: str
    """The JSON text of a schema, a regular expression, or a Lark grammar, which may embed schemas as ``%json {…}``."""
    trusted: bool = False
    """It is the operator's and not a caller's, so that operators whose cost has no bound are let through."""


def size_problem(grammar: Grammar) -> str:
    """Return why ``grammar`` is too large, or nothing. Costs the same for any size."""
    characters = len(grammar.source)
    size = characters if characters > MAX_BYTES else len(grammar.source.encode(errors="surrogatepass"))
    return f"{size} bytes, which is more than the {MAX_BYTES} that a grammar may have" if size > MAX_BYTES else ""


def one_of(texts: Iterable[str]) -> Grammar:
    """Return the grammar of an answer that is one of ``texts``."""
    return Grammar(GrammarKind.REGEX, "|".join(map(re.escape, texts)))


MAX_LOGPROBS = 20
"""Tokens that may be listed at each place: OpenAI's bound."""

MAX_TOKENS = 2**31 - 1
"""The largest token limit: more than any context has."""

MAX_BIAS = 100.0
"""OpenAI's bound of a bias, either way; at -100 a token is as good as banned."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one sequence, applied in the order the model's authors use.

    Biases, penalties, temperature, top_k, top_p, min_p. A temperature of 0 is greedy. Penalties follow vLLM's reading:
    ``repetition_penalty`` looks at prompt and answer, the other two at the answer alone.

    Raises:
        ValueError: a value is out of its range; the message names the field.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means all of the vocabulary."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    """Below 2**32 - 1, which to llama.cpp means "any"; None draws a fresh one for each sequence."""
    min_tokens: int = 0
    """End-of-generation tokens cannot be sampled before this many tokens."""
    ignore_eos: bool = False
    logprobs: int | None = None
    """How many of the most probable tokens to report beside each sampled one; None reports nothing."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt, all of which are then computed again; None reports nothing."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Biases added to the logits of some tokens; ids outside the vocabulary have no effect."""
    grammar: Grammar | None = None
    """Grammar of the answer."""
    progress_seconds: float | None = None
    """Least time between two reports of progress before the first token; None reports nothing."""

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 2.0)
        _check("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _check("top_k", self.top_k, 0, 2**31 - 1)
        _check("min_p", self.min_p, 0.0, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.0, 2.0, open_low=True)
        _check("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check("max_tokens", self.max_tokens, 1, MAX_TOKENS)
        _check("min_tokens", self.min_tokens, 0, self.max_tokens)
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            if count is not None:
                _check(name, count, 0, MAX_LOGPROBS)
        for _, bias in self.logit_bias:
            _check("logit_bias", bias, -MAX_BIAS, MAX_BIAS)
        if self.seed is not None:
            _check("seed", self.seed, 0, 2**32 - 2)


_SEEDS = 2**32 - 1
"""Seeds lie below this."""


def params_after(params: SamplingParams, answered: int) -> SamplingParams:
    """Return how the rest of an answer is sampled, of which there are ``answered`` tokens."""
    if not answered:
        return params
    return replace(
        params,
        max_tokens=max(1, params.max_tokens - answered),
        min_tokens=max(0, params.min_tokens - answered),
        seed=None if params.seed is None else _seed_after(params.seed, answered),
        prompt_logprobs=None,
    )


def _seed_after(seed: int, answered: int) -> int:
    """Return a seed for the rest of an answer: with the same one the same numbers would be drawn again."""
    digest = hashlib.blake2b(f"{seed} {answered}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _SEEDS


def _check(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    inside = math.isfinite(value) and low <= value <= high and not (open_low and value == low)
    if not inside:
        raise ValueError(f"{name} must be {'above' if open_low else 'at least'} {low} and at most {high}, not {value}")
