"""``glmserve task``: a task done by a running server, or by a model that is started for it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from glmserve.chat.tasks.task import task_card
from glmserve.cli.client import ServedTask, ServerCallError, ServerClient, TaskCard
from glmserve.cli.options import DEFAULT_URL, UsageProblem, client_key, read_settings, reject_settings, settings_options
from glmserve.cli.tasks import check, lines
from glmserve.config.schema import Settings


@click.command()
@click.argument("task_id", metavar="TASK", required=False)
@click.argument("text", required=False)
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of a variable of the task; repeatable."
)
@click.option("--list", "as_list", is_flag=True, help="List the tasks of the settings, or of the server at --url.")
@click.option("--check", "as_check", is_flag=True, help="Run the examples of the task, and judge the answers.")
@click.option(
    "--min-accuracy", type=click.FloatRange(0, 1), default=None, metavar="SHARE",
    help="Fail if a smaller share of fields is right, from 0 to 1; implies --check.",
)  # fmt: skip
@click.option("--lines", "as_lines", is_flag=True, help="Run each line of standard input, as a batch of the server.")
@click.option("--again", is_flag=True, help="With --lines: begin again, although there is a batch of the same input.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--url", default=None, help=f"URL of a running server.  [default: {DEFAULT_URL}, unless --model is given]"
)
@click.option(
    "--model", default=None, help="Model to load for this task, as for serve; with --url, the model that runs it."
)
@settings_options
def task(
    *,
    task_id: str | None,
    text: str | None,
    variables: tuple[str, ...],
    as_list: bool,
    as_check: bool,
    min_accuracy: float | None,
    as_lines: bool,
    again: bool,
    as_json: bool,
    url: str | None,
    model: str | None,
    config: Path | None,
    api_key: tuple[str, ...],
    **flags: object,
) -> None:
    """Run TASK with TEXT; - reads TEXT from standard input.

    \b
    glmserve task intent 明天妈妈过生日
    glmserve task news - < item.txt
    glmserve task style 雨天 --var examples="$(cat e.txt)"
    glmserve task review --check --min-accuracy 0.9
    glmserve task review --lines < in.jsonl > out.jsonl

    The task runs on a running server, or on a --model that is loaded for this call only. The settings are the same
    as for `serve`; --api-key is the key for a running server. TEXT is the value of the variable without a default;
    --var sets any variable.
    """  # noqa: D301 - click reads the character
    key = client_key(api_key)
    if as_list:
        listed = _local(read_settings((), config, flags)) if url is None else _served(url, key, model)
        show(listed, as_json=as_json)
        return
    if task_id is None:
        raise UsageProblem("give a TASK; glmserve task --list shows them")
    as_check = as_check or min_accuracy is not None
    call = _Call(text, _variables(variables), as_check, min_accuracy or 0.0, as_lines, again, as_json)
    call.require_one_input()
    with _server(url, model, config, flags, batches=as_lines) as address:
        _perform(address, key, model or "" if url else "", task_id, call)


@dataclass(frozen=True, slots=True)
class _Call:
    """The input of one call of the command, and its mode."""

    text: str | None
    variables: Mapping[str, str]
    as_check: bool
    min_accuracy: float
    as_lines: bool
    again: bool
    as_json: bool

    def require_one_input(self) -> None:
        """Raise UsageProblem where the flags name more than one input."""
        has_text = self.text is not None or bool(self.variables)
        if self.as_check and has_text:
            raise UsageProblem("--check runs the examples of the task; leave out TEXT and --var")
        if self.as_lines and (has_text or self.as_check):
            raise UsageProblem("--lines reads standard input; leave out TEXT, --var and --check")


def _perform(address: str, key: str, model: str, task_id: str, call: _Call) -> None:
    with closing(ServerClient(address, key)) as client:
        try:
            found = _find(client.tasks(model), task_id)
            if call.as_check:
                _check(client, found, call.min_accuracy, as_json=call.as_json)
            elif call.as_lines:
                lines.run(address, key, found, again=call.again)
            else:
                values = _filled(found.card, call.text, call.variables)
                _print(found, client.perform(found, values), as_json=call.as_json)
        except ServerCallError as error:
            raise click.ClickException(str(error)) from None


def _check(client: ServerClient, task: ServedTask, least: float, *, as_json: bool) -> None:
    checked = check.check(client, task)
    if as_json:
        click.echo(check.to_json(checked))
    else:
        check.show(checked)
    check.require(checked, least)


def show(tasks: Sequence[TaskCard], *, as_json: bool) -> None:
    """Print the tasks of the server."""
    if as_json:
        click.echo(json.dumps([card.model_dump() for card in tasks], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("task", no_wrap=True)
    table.add_column("slots")
    table.add_column("what it does")
    for card in tasks:
        slots = (slot.name if slot.default is None else f"[{slot.name}]" for slot in card.slots)
        table.add_row(card.id, " ".join(slots).replace("[", r"\["), card.description.en or card.description.zh)
    Console().print(table)


def _local(settings: Settings) -> tuple[TaskCard, ...]:
    # A task of a running server does without what compiles grammars, and what serves.
    from glmserve.chat.tasks.loader import TaskFileError, load_tasks  # noqa: PLC0415

    try:
        tasks = load_tasks(settings.prompts, builtin=settings.builtin_tasks)
    except TaskFileError as error:
        raise UsageProblem(str(error)) from None
    return tuple(TaskCard.model_validate(task_card(task)) for task in tasks.values())


def _served(url: str, key: str, model: str | None) -> tuple[TaskCard, ...]:
    with closing(ServerClient(url, key)) as client:
        try:
            return tuple(task.card for task in client.tasks(model or ""))
        except ServerCallError as error:
            raise click.ClickException(str(error)) from None


@contextmanager
def _server(
    url: str | None, model: str | None, config: Path | None, flags: Mapping[str, object], *, batches: bool
) -> Iterator[str]:
    """Yield the address of the server that does the task: one that runs, or one for the time of the block."""
    if url is None and model is not None:
        from glmserve.cli.run_server import own_server  # noqa: PLC0415

        with own_server(model, config, flags, batches=batches) as own:
            yield own
        return
    reject_settings(flags, "--model")
    yield url or DEFAULT_URL


def _variables(given: Sequence[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise UsageProblem(f"--var {pair}: must be NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)


def _find(tasks: Sequence[ServedTask], task_id: str) -> ServedTask:
    found = next((task for task in tasks if task.card.id == task_id), None)
    if found is None:
        known = ", ".join(task.card.id for task in tasks) or "none"
        raise UsageProblem(f"there is no task {task_id!r}; there are: {known}")
    return found


def _filled(card: TaskCard, text: str | None, given: Mapping[str, str]) -> Mapping[str, str]:
    if text is not None:
        if card.main_slot is None:
            needed = ", ".join(slot.name for slot in card.slots if slot.default is None) or "nothing"
            raise UsageProblem(f"{card.id} takes no TEXT; it needs {needed}: give each with --var NAME=VALUE")
        return {card.main_slot: _read_stdin() if text == "-" else text, **given}
    missing = [slot for slot in card.slots if slot.default is None and slot.name not in given]
    if missing:
        example = missing[0].example or "…"
        raise UsageProblem(f"{card.id} needs {missing[0].name}, as in: glmserve task {card.id} {example}")
    return given


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageProblem(f"standard input is not valid UTF-8 ({error.reason} at byte {error.start})") from None


def _print(task: ServedTask, pieces: Iterator[str], *, as_json: bool) -> None:
    if as_json:
        answer = {"task": task.card.id, "model": task.model, "text": "".join(pieces)}
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()
