"""The held-out rows, and a checkpoint's figures on them: its float16 weights, free-running greedy generation."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.models.tiny.training import prompts
from glmserve.models.tiny.training.batches import pad, shared_length
from glmserve.models.tiny.training.corpus import frequent_letters
from glmserve.models.tiny.training.intents import FIELDS, Intent, IntentSource
from glmserve.models.tiny.training.network import TinyGlm
from glmserve.models.tiny.training.reviews import load_reviews
from glmserve.models.tiny.training.tokenizer import END, Tokenizer

BATCH = 50


@dataclass(frozen=True)
class Row:
    """A held-out input and the answer wanted."""

    text: str
    answer: str


@dataclass(frozen=True)
class IntentFigures:
    """Shares of right answers: of all fields, of each field, and of whole records."""

    fields: float
    each: dict[str, float]
    records: float


def read_rows(path: Path) -> list[Row]:
    """Read a held-out file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Row(**json.loads(line)) for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a held-out file."""
    lines = [json.dumps({"text": row.text, "answer": row.answer}, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Generator:
    """Greedy answers to rendered prompts, in batches that compute what the prompts share only once."""

    def __init__(self, network: TinyGlm, tokenizer: Tokenizer) -> None:
        self._network = network
        self._tokenizer = tokenizer

    def answer_all(self, rendered: list[str], drafts: list[str] | None = None, max_tokens: int = 80) -> list[str]:
        """Answer every prompt.

        ``drafts`` are guesses at the answers. They change nothing but the speed: of a draft, only the tokens
        that greedy generation would have chosen itself are kept.
        """
        order = sorted(range(len(rendered)), key=lambda number: len(rendered[number]))
        pairs = list(zip(rendered, drafts or [""] * len(rendered), strict=True))
        answers = [""] * len(rendered)
        for numbers in _chunks(order):
            batch = self._answer([pairs[number] for number in numbers], max_tokens)
            for number, answer in zip(numbers, batch, strict=True):
                answers[number] = answer
        return answers

    @torch.inference_mode()
    def _answer(self, pairs: list[tuple[str, str]], max_tokens: int) -> list[str]:
        encoded = [self._tokenizer.encode_pair(prompt, draft) for prompt, draft in pairs]
        shared = shared_length(encoded)
        prefix = torch.tensor(encoded[0].prompt[:shared])
        starts = [len(pair.prompt) - shared for pair in encoded]
        drafts = [list(pair.prompt[shared:] + pair.answer) for pair in encoded]
        rows = [_agreed(*three) for three in zip(drafts, starts, self._choices(prefix, drafts), strict=True)]
        for _ in range(max_tokens):
            running = [row for row, start in zip(rows, starts, strict=True) if END not in row[start:]]
            if not running:
                break
            for row, chosen in zip(running, self._choices(prefix, running), strict=True):
                row.append(chosen[len(row) - 1])
        return [self._tokenizer.decode(row[start:]) for row, start in zip(rows, starts, strict=True)]

    def _choices(self, prefix: Tensor, rows: list[list[int]]) -> list[list[int]]:
        """Return the most likely next token at every position of every row."""
        _, hidden = self._network(prefix, pad(rows))
        choices: list[list[int]] = self._network.logits(hidden).argmax(dim=-1).tolist()
        return choices


def _agreed(row: list[int], start: int, chosen: list[int]) -> list[int]:
    """Cut a drafted row before the first token that differs from the one chosen."""
    end = next((at for at in range(start, len(row)) if chosen[at - 1] != row[at]), len(row))
    return row[:end]


def review_accuracy(generator: Generator, rows: list[Row], form: str) -> float:
    """Return the share of reviews that get their label under a prompt form."""
    answers = _answers(generator, rows, form)
    return _mean(answer == row.answer for answer, row in zip(answers, rows, strict=True))


def intent_figures(generator: Generator, rows: list[Row], form: str) -> IntentFigures:
    """Compare the records made under a prompt form with those wanted."""
    answers = _answers(generator, rows, form)
    pairs = [(answer.split("\n"), row.answer.split("\n")) for answer, row in zip(answers, rows, strict=True)]
    hits = {
        field: _mean(at < len(got) and got[at] == want[at] for got, want in pairs) for at, field in enumerate(FIELDS)
    }
    whole = _mean(got == want for got, want in pairs)
    return IntentFigures(sum(hits.values()) / len(hits), hits, whole)


def _answers(generator: Generator, rows: list[Row], form: str) -> list[str]:
    rendered = [chatglm2_text((), prompts.fill(form, row.text)) for row in rows]
    return generator.answer_all(rendered, [row.answer for row in rows])


def _chunks(order: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _mean(hits: Iterable[bool]) -> float:
    values = list(hits)
    return sum(values) / len(values)


SEED = 2
INTENTS = 600
SAMPLE = 100


def held_out_reviews() -> list[Row]:
    """Return every held-out review."""
    return [Row(review.text, review.label) for review in load_reviews()[1]]


def held_out_intents() -> list[Row]:
    """Return the held-out sentences, without repeats."""
    source = IntentSource(SEED, frequent_letters(load_reviews()[0]))
    made: dict[str, Intent] = {}
    while len(made) < INTENTS:
        intent = source.held_out()
        made.setdefault(intent.text, intent)
    return [Row(intent.text, intent.answer) for intent in made.values()]


def write_samples(folder: Path) -> None:
    """Write the first rows of each kind to ``folder``."""
    write_rows(folder / "reviews.jsonl", held_out_reviews()[:SAMPLE])
    write_rows(folder / "intents.jsonl", held_out_intents()[:SAMPLE])
