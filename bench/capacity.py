"""How many machines a rate of requests for the eight built-in tasks takes: ``python -m bench.capacity [zh]``.

Rates of CPUs are read from docs/benchmarks.md, which `bench.compare` writes; none of a GPU was measured here, so those
are published ones. A request takes an engine the time of its new prompt tokens and of its answer; the beginning of a
task's prompt is cached. Prints the tables of docs/scaling.md.
"""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RATES = (10, 100, 1000)
"""Requests a second."""
BUSY = 0.7
"""Share of the time that an engine computes; the rest is for hours that are busier than the mean."""
_PINNED = 16
"""Beginnings with fewer tokens are not kept."""
_CLIENTS, _OWN_PROMPT, _OWN_ANSWER = 8, 140, 32
"""The workload `own` of docs/benchmarks.md."""


@dataclass(frozen=True, slots=True)
class TaskTokens:
    """Tokens of a request for a task."""

    task: str
    prompt: int
    beginning: int
    answer: int

    @property
    def new(self) -> int:
        """Prompt tokens that are computed where the beginning is cached."""
        return self.prompt - self.beginning if self.beginning >= _PINNED else self.prompt


TASKS = (
    TaskTokens("intent", 766, 762, 35),
    TaskTokens("car", 308, 298, 26),
    TaskTokens("review", 136, 119, 2),
    TaskTokens("synonym", 79, 69, 10),
    TaskTokens("synonym-zh", 79, 69, 10),
    TaskTokens("style", 144, 137, 60),
    TaskTokens("news", 275, 5, 100),
    TaskTokens("summary", 176, 102, 150),
)
"""Prompts with their example by the vocabulary of ChatGLM2-6B. Answers of the first three are the ones of the examples;
the others are assumed: a sentence is rewritten at its length, a summary repeats its text."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of an engine that computes several answers at once."""

    name: str
    chinese: str
    prompt: float
    answers: float

    def seconds(self, new: float, answer: float) -> float:
        """Return the time that a request takes of the engine."""
        return new / self.prompt + answer / self.answers


def measured(model: str, name: str, chinese: str, page: str) -> Speed:
    """Return the figures of a model in ``page``.

    The rate of answers is what the workload `own` leaves: its time without that of the prompts.
    """
    part = page.partition(f"### {model}")[2].partition("\n### ")[0]
    prompt = float(re.findall(r"llama-bench, without a server: ([\d.]+) tokens/s of a prompt", part)[0])
    seconds = float(re.findall(r"a prompt of its own for each client \| ([\d.]+) s", part)[0])
    left = seconds - _CLIENTS * _OWN_PROMPT / prompt
    return Speed(name, chinese, prompt, _CLIENTS * _OWN_ANSWER / left)


PUBLISHED = Speed("8B, q4_0, one RTX 4090", "8B、q4_0、一张 RTX 4090", 10358.75, 1891.88)
"""llama.cpp, Llama 8B in q4_0: a prompt of 512 tokens in steps of 512 (PR 7676) and of 16 tokens (PR 15131).

A step of 16 tokens is what 16 answers at once cost, each with a short context."""


def speeds(page: str) -> tuple[Speed, ...]:
    """Return all that the tables have."""
    return (
        measured("ChatGLM2-6B, q4_0", "6B, q4_0, two CPU cores", "6B、q4_0、两个 CPU 核", page),
        measured("0.9B, q4_0", "0.9B, q4_0, two CPU cores", "0.9B、q4_0、两个 CPU 核", page),
        PUBLISHED,
    )


def units(rate: float, speed: Speed, tasks: Sequence[TaskTokens] = TASKS, *, cached: bool = True) -> int:
    """Return how many engines of a speed answer ``rate`` requests a second, of all tasks alike."""
    new = sum(task.new if cached else task.prompt for task in tasks) / len(tasks)
    answer = sum(task.answer for task in tasks) / len(tasks)
    return math.ceil(round(rate * speed.seconds(new, answer) / BUSY, 6))


_TOKENS = {
    "en": "| task | prompt | of it cached | answer |",
    "zh": "| 任务 | 提示词 | 其中已缓存 | 回答 |",
}
_UNITS = {
    "en": "| engine | prompt tokens/s | answer tokens/s | 10/s | 100/s | 1,000/s | 10/s, nothing cached |",
    "zh": "| 引擎 | 提示词 token/s | 回答 token/s | 每秒 10 个 | 每秒 100 个 | 每秒 1,000 个 | 每秒 10 个，无缓存 |",
}


def tables(language: str, page: str) -> str:
    """Return both tables, in Markdown."""
    lines = [_TOKENS[language], "|---|---|---|---|"]
    lines += [f"| `{task.task}` | {task.prompt} | {task.prompt - task.new} | {task.answer} |" for task in TASKS]
    lines += ["", _UNITS[language], "|---|---|---|---|---|---|---|"]
    for speed in speeds(page):
        needed = [units(rate, speed) for rate in RATES] + [units(RATES[0], speed, cached=False)]
        figures = [f"{speed.prompt:,.3g}" if speed.prompt < 1000 else f"{speed.prompt:,.0f}"]
        figures.append(f"{speed.answers:,.3g}" if speed.answers < 1000 else f"{speed.answers:,.0f}")
        name = speed.name if language == "en" else speed.chinese
        lines.append(f"| {name} | {' | '.join(figures + [f'{number:,}' for number in needed])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables(sys.argv[1] if len(sys.argv) > 1 else "en", BENCHMARKS.read_text("utf-8")))
