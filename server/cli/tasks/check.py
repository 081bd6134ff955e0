"""``glmserve task TASK --check``: the answers to the examples of a task, judged."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from glmserve.chat.tasks.judgement_object import (
    ConfusionObject,
    ExampleList,
    ExampleObject,
    FieldScoreObject,
    FieldVerdictObject,
    JudgementObject,
)
from glmserve.cli.client import ServedTask, ServerClient
from glmserve.cli.options import UsageProblem, output
from glmserve.cli.texts.chinese import say

_AT_ONCE = 4
_SEED = 1
"""So that a task with a temperature is judged by the same draws before and after a change."""
_NO_FIELD = "—"
_COLUMNS = 10
"""Labels that a confusion table has room for; with more, the confused pairs are listed."""
_EXAMPLES = TypeAdapter(ExampleList)
_JUDGEMENT = TypeAdapter(JudgementObject)


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """A judgement, and the model that answered."""

    model: str
    judgement: JudgementObject


def check(client: ServerClient, task: ServedTask) -> TaskCheck:
    """Let the server answer and judge all examples of ``task``.

    Raises:
        UsageProblem: the task has no examples.
        ServerCallError: the server rejects, or ends an answer with an error.
    """
    path = f"/v1/tasks/{task.card.id}"
    listed = client.get(f"{path}/examples", "the server is older than this command, or not glmserve")
    examples = _EXAMPLES.validate_json(listed)["data"]
    if not examples:
        raise UsageProblem(f"the task {task.card.id} has no examples; add [[examples]] to its file")
    answers = [*_answers(client, task, examples)]
    judged = client.post(f"{path}/judge", {"answers": answers})
    return TaskCheck(task.model, _JUDGEMENT.validate_json(judged))


def _answers(client: ServerClient, task: ServedTask, examples: Sequence[ExampleObject]) -> Iterator[str]:
    """Yield the answers in order, while a bar shows how many there are."""

    def answer(example: ExampleObject) -> str:
        return "".join(client.perform(task, example["variables"], seed=_SEED))

    pool = ThreadPoolExecutor(_AT_ONCE)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            yield from progress.track(
                pool.map(answer, examples), len(examples), description=say("answering the examples")
            )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def to_json(check: TaskCheck) -> str:
    """Return the check for programs."""
    return json.dumps({"model": check.model, **check.judgement}, indent=2, ensure_ascii=False)


def show(check: TaskCheck) -> None:
    """Print the accuracy by field, the confusion of labels, and the wrong answers."""
    console, judgement = output(), check.judgement
    count = len(judgement["answers"])
    title = say("{task} with {model}, {count} examples", task=judgement["task"], model=check.model, count=count)
    console.print(title, style="bold", markup=False, highlight=False)
    console.print(_accuracy(judgement["fields"]))
    for score in judgement["fields"]:
        if score["confusion"] is not None and (score["right"] < score["of"] or len(judgement["fields"]) == 1):
            _show_confusion(console, score, score["confusion"])
    _show_wrong(console, judgement)
    right = sum(answer["is_right"] for answer in judgement["answers"])
    console.print(
        say("accuracy {accuracy}; right in all fields: {right} of {count} ({share})",
            accuracy=_percent(judgement["accuracy"]), right=right, count=count, share=_percent(judgement["all_right"])),
        style="bold", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def require(check: TaskCheck, least: float) -> None:
    """Raise ClickException if the accuracy is below ``least``."""
    if check.judgement["accuracy"] < least:
        told = say("the accuracy {accuracy} is below --min-accuracy {least}",
                   accuracy=_percent(check.judgement["accuracy"]), least=_percent(least))  # fmt: skip
        raise click.ClickException(told)


def _accuracy(scores: Sequence[FieldScoreObject]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("field", "kind"):
        table.add_column(say(name), no_wrap=True)
    for name in ("right", "of", "accuracy"):
        table.add_column(say(name), justify="right", no_wrap=True)
    for score in scores:
        table.add_row(
            escape(score["name"]),
            score["kind"],
            str(score["right"]),
            str(score["of"]),
            _percent(score["right"] / score["of"]),
        )
    return table


def _show_confusion(console: Console, score: FieldScoreObject, confusion: ConfusionObject) -> None:
    console.print()
    title = say("{field}: the right label (rows) and the answered one (columns)", field=score["name"])
    if len(confusion["answered"]) > _COLUMNS or _width(confusion) > console.width:
        title = say("{field}: confused labels", field=score["name"])
        console.print(title, style="bold", markup=False, highlight=False)
        for right, answered, count in _confused(confusion):
            console.print(f"  {right} → {answered}: {count}", markup=False, highlight=False)
        return
    console.print(title, style="bold", markup=False, highlight=False)
    table = Table(box=None, header_style="bold")
    table.add_column("", style="bold", no_wrap=True)
    for label in confusion["answered"]:
        table.add_column(escape(label or _NO_FIELD), justify="right", no_wrap=True)
    for label, counts in zip(confusion["right"], confusion["counts"], strict=True):
        table.add_row(escape(label or _NO_FIELD), *(str(count) if count else "·" for count in counts))
    console.print(table)


def _confused(confusion: ConfusionObject) -> Iterator[tuple[str, str, int]]:
    for right, counts in zip(confusion["right"], confusion["counts"], strict=True):
        for answered, count in zip(confusion["answered"], counts, strict=True):
            if count and answered != right:
                yield right or _NO_FIELD, answered or _NO_FIELD, count


def _width(confusion: ConfusionObject) -> int:
    first = max(cell_len(label) for label in confusion["right"])
    return first + sum(max(cell_len(label), 2) + 2 for label in confusion["answered"]) + 2


def _show_wrong(console: Console, judgement: JudgementObject) -> None:
    wrong = [answer for answer in judgement["answers"] if not answer["is_right"]]
    texts = [score["name"] for score in judgement["fields"] if score["kind"] == "text"]
    if not wrong:
        return
    console.print()
    console.print(say("wrong answers"), style="bold")
    for answer in wrong:
        console.print(
            "  " + _one_line(" | ".join(answer["variables"].values())), markup=False, highlight=False, soft_wrap=True
        )
        for field in answer["fields"]:
            if not field["is_right"]:
                told = _told(field, is_text=field["name"] in texts)
                console.print(f"    {told}", markup=False, highlight=False, soft_wrap=True)


def _told(field: FieldVerdictObject, *, is_text: bool) -> str:
    said = _NO_FIELD if not field["answered"] else _one_line(" / ".join(field["answered"]))
    right = _one_line(" / ".join(field["right"])) or say("some text")
    if is_text and field["answered"]:
        return say("{field}: {answered}, without {right}", field=field["name"], answered=said, right=right)
    return say("{field}: {answered}, not {right}", field=field["name"], answered=said, right=right)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
