"""Measures the gain of the grammars and the pinned beginnings of tasks: ``python -m bench.tasks [MODEL]``.

The held-out sentences and reviews of the embedded model (``models/tiny/heldout``, 100 of each) are given to the two
tasks that it was trained for, with the grammar and without it, greedily and, with three seeds, at ChatGLM2's own
temperature of 0.8. An answer is in its form where the grammar takes it, blanks around it aside; a field is right where
it is the held-out one. The other tasks, which it was not trained for, are given their example with ten seeds, and only
their form is looked at. Then `intent` is timed to its first token: pinned, and with a system text in front that is new
each time, so that nothing of the prompt is cached. Prints two Markdown tables; takes some minutes.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from llguidance import LLMatcher, LLTokenizer

from bench.served import running
from glmserve.chat.tasks.loader import load_tasks
from glmserve.chat.tasks.task import Task
from glmserve.engine.grammar_backend import internal_form

_HELD_OUT = Path(__file__).parents[1] / "models" / "tiny" / "heldout"
_TRAINED = {"intent": "intents.jsonl", "review": "reviews.jsonl"}
_AT_ONCE = 8
_SEEDS = 10
_TIMINGS = 9
_BYTES = LLTokenizer("byte")


@dataclass(frozen=True, slots=True)
class Row:
    """Input of a task, and the right answer where it is known."""

    text: str
    right: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    row: Row
    temperature: float
    seed: int


class Server:
    """A running server, asked for tasks with and without their grammar."""

    def __init__(self, url: str) -> None:
        """``url`` is its address."""
        self._http = httpx.Client(base_url=url, timeout=600)
        self.model = str(self._http.get("/v1/models").json()["data"][0]["id"])

    def answer(self, task: Task, text: str, *, held: bool, temperature: float, seed: int) -> str:
        """Return the answer to ``task``; without being ``held`` to its grammar, by the same prompt and sampling."""
        body: dict[str, object] = {"temperature": temperature, "seed": seed, "max_tokens": task.sampling.max_tokens}
        if held:
            return self._chat({**body, "model": f"{self.model}:{task.id}"}, text)
        return self._chat({**body, "model": self.model, "stop": list(task.stop)}, task.fill({"text": text}))

    def first_token_seconds(self, task: Task, text: str, system: str = "") -> float:
        """Return the time that one token takes, with ``system`` in front."""
        began = time.perf_counter()
        self._chat({"model": f"{self.model}:{task.id}", "max_tokens": 1}, text, system)
        return time.perf_counter() - began

    def _chat(self, fields: dict[str, object], text: str, system: str = "") -> str:
        messages = [{"role": "system", "content": system}] if system else []
        body = {**fields, "messages": [*messages, {"role": "user", "content": text}]}
        reply = self._http.post("/v1/chat/completions", json=body).raise_for_status()
        return str(reply.json()["choices"][0]["message"]["content"]).strip()


def is_in_form(task: Task, text: str, answer: str) -> bool:
    """Return whether ``answer`` is one that the task's grammar takes."""
    grammar = task.output_constraint({"text": text}).grammar
    assert grammar is not None, f"{task.id} has no form"
    matcher = LLMatcher(_BYTES, internal_form(grammar))
    ids = _BYTES.tokenize_str(answer)
    return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


def measure(server: Server, task: Task, asked: Sequence[Asked], *, held: bool) -> tuple[str, str, str]:
    """Return the shares of answers in their form, of right fields and of answers that are right as a whole."""

    def answer(ask: Asked) -> str:
        return server.answer(task, ask.row.text, held=held, temperature=ask.temperature, seed=ask.seed)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(answer, asked))
    in_form = _share(is_in_form(task, ask.row.text, said) for ask, said in zip(asked, answers, strict=True))
    if not asked[0].row.right:
        return in_form, "", ""
    pairs = [(said.split("\n"), ask.row.right.split("\n")) for ask, said in zip(asked, answers, strict=True)]
    fields = (at < len(said) and said[at] == line for said, right in pairs for at, line in enumerate(right))
    return in_form, _share(fields), _share(said == right for said, right in pairs)


def report(server: Server, task: Task, rows: Sequence[Row], temperature: float, seeds: Sequence[int]) -> None:
    """Print a row of the table: ``rows`` with each of ``seeds``, without the grammar and with it."""
    asked = [Asked(row, temperature, seed) for row in rows for seed in seeds]
    free, kept = (measure(server, task, asked, held=held) for held in (False, True))
    cells = (cell for both in zip(free, kept, strict=True) for cell in both)
    print(f"| `{task.id}` | {temperature:g} | {len(asked)} | {' | '.join(cells)} |", flush=True)


def report_times(server: Server, task: Task, rows: Sequence[Row]) -> None:
    """Print the time to the first token with the prompt's beginning in the cache, and without."""
    server.first_token_seconds(task, rows[0].text)
    pinned = [server.first_token_seconds(task, row.text) for row in rows[:_TIMINGS]]
    computed = [server.first_token_seconds(task, row.text, f"{at}. ") for at, row in enumerate(rows[:_TIMINGS])]
    print("\n| to the first token of `intent` | median | fastest | slowest |\n| --- | --- | --- | --- |")
    for name, times in (("pinned", pinned), ("not cached", computed)):
        cells = (statistics.median(times), min(times), max(times))
        print(f"| {name} | {' | '.join(f'{seconds:.3f} s' for seconds in cells)} |", flush=True)


def _rows(name: str, most: int) -> list[Row]:
    lines = (_HELD_OUT / name).read_text("utf-8").splitlines()[:most]
    return [Row(json.loads(line)["text"], json.loads(line)["answer"]) for line in lines]


def _share(hits: Iterable[bool]) -> str:
    values = list(hits)
    return f"{100 * sum(values) / len(values):.1f} %"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--rows", type=int, default=100, help="held-out rows of each kind")
    parser.add_argument("--only-times", action="store_true", help="leave out the answers, as for random weights")
    arguments = parser.parse_args()
    tasks = load_tasks(None)
    with tempfile.TemporaryDirectory() as folder:
        model = [arguments.model] if arguments.model else []
        with running([*model, "--parallel", str(_AT_ONCE)], Path(folder)) as (url, _):
            server = Server(url)
            if not arguments.only_times:
                print("| task | temperature | answers | in its form | with grammar | fields right | with grammar "
                      f"| all right | with grammar |\n{'| --- ' * 9}|")  # fmt: skip
                for name, file in _TRAINED.items():
                    for temperature, seeds in ((0.0, 1), (0.8, 3)):
                        report(server, tasks[name], _rows(file, arguments.rows), temperature, range(seeds))
                for task in tasks.values():
                    if task.id not in _TRAINED:
                        report(server, task, [Row(task.variable_examples["text"])], 0.8, range(_SEEDS))
            report_times(server, tasks["intent"], _rows(_TRAINED["intent"], _TIMINGS))


if __name__ == "__main__":
    main()
