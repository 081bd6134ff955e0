"""Held-out figures of a checkpoint: its float16 weights, free-running greedy generation."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from models.tiny.training import prompts
from models.tiny.training.batches import pad
from models.tiny.training.intents import FIELDS
from models.tiny.training.network import TinyGlm
from models.tiny.training.tokenizer import END, Tokenizer
from server.prompts.chatglm2 import render

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

    def answer_all(self, rendered: list[str], max_tokens: int = 80) -> list[str]:
        """Answer every prompt."""
        order = sorted(range(len(rendered)), key=lambda number: len(rendered[number]))
        answers = [""] * len(rendered)
        for numbers in _chunks(order):
            batch = self._answer([rendered[number] for number in numbers], max_tokens)
            for number, answer in zip(numbers, batch, strict=True):
                answers[number] = answer
        return answers

    @torch.inference_mode()
    def _answer(self, rendered: list[str], max_tokens: int) -> list[str]:
        encoded = [self._tokenizer.prefix + self._tokenizer.encode(text) for text in rendered]
        shared = _shared(encoded)
        prefix = torch.tensor(encoded[0][:shared])
        rows = [list(ids[shared:]) for ids in encoded]
        starts = [len(row) for row in rows]
        for _ in range(max_tokens):
            running = [row for row, start in zip(rows, starts, strict=True) if END not in row[start:]]
            if not running:
                break
            _, hidden = self._network(prefix, pad(running))
            ends = torch.tensor([len(row) - 1 for row in running])
            logits = self._network.logits(hidden[torch.arange(len(running)), ends])
            for row, token in zip(running, logits.argmax(dim=-1).tolist(), strict=True):
                row.append(token)
        return [self._tokenizer.decode(row[start:]) for row, start in zip(rows, starts, strict=True)]


def review_accuracy(generator: Generator, rows: list[Row], form: str) -> float:
    """Return the share of reviews that get their label under a prompt form."""
    answers = generator.answer_all([render((), prompts.fill(form, row.text)) for row in rows], max_tokens=8)
    return _mean(answer == row.answer for answer, row in zip(answers, rows, strict=True))


def intent_figures(generator: Generator, rows: list[Row], form: str) -> IntentFigures:
    """Compare the records made under a prompt form with those wanted."""
    answers = generator.answer_all([render((), prompts.fill(form, row.text)) for row in rows])
    pairs = [(answer.split("\n"), row.answer.split("\n")) for answer, row in zip(answers, rows, strict=True)]
    hits = {
        field: _mean(at < len(got) and got[at] == want[at] for got, want in pairs) for at, field in enumerate(FIELDS)
    }
    whole = _mean(got == want for got, want in pairs)
    return IntentFigures(sum(hits.values()) / len(hits), hits, whole)


def _shared(encoded: list[tuple[int, ...]]) -> int:
    """Return how many leading ids all prompts share, short of the last of each."""
    shortest = min(len(ids) for ids in encoded) - 1
    for position in range(shortest):
        if any(ids[position] != encoded[0][position] for ids in encoded):
            return position
    return shortest


def _chunks(order: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _mean(hits: Iterable[bool]) -> float:
    values = list(hits)
    return sum(values) / len(values)
