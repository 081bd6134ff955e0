"""``glmserve task TASK --lines``: each line of standard input is done by the server, as a batch."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing

import click

from glmserve.cli.batch import BatchClient, BatchState, answered
from glmserve.cli.client import ServedTask, TaskCard
from glmserve.cli.options import UsageProblem

_ENDPOINT = "/v1/responses"
_WINDOW = "30d"


def run(url: str, key: str, task: ServedTask, *, again: bool) -> None:
    """Write a line with the answer for each line of standard input.

    Raises:
        ServerCallError: the server rejects, or has no batches.
        UsageProblem: a line cannot be done.
    """
    given = list(_inputs(task.card))
    if not given:
        return
    content = "".join(_request(task, number, values) for number, (_, values) in enumerate(given, 1)).encode()
    with closing(BatchClient(url, key)) as client:
        name = f"{task.card.id}.jsonl"
        ended = answered(client, name, content, _ENDPOINT, _WINDOW, again=again)
        failed = _print(client, ended, [value for value, _ in given])
    if failed:
        raise click.ClickException(f"{failed} of {len(given)} lines have no answer")


def _inputs(card: TaskCard) -> Iterator[tuple[object, Mapping[str, str]]]:
    """Yield each line as it is, and the variables that it gives. Raises UsageProblem."""
    for number, line in enumerate(sys.stdin.buffer.read().splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageProblem(f"line {number} is not JSON: give a string, or an object of variables") from None
        yield value, _variables(card, value, number)


def _variables(card: TaskCard, value: object, number: int) -> Mapping[str, str]:
    if isinstance(value, str) and card.main_slot is not None:
        return {card.main_slot: value}
    known = [slot.name for slot in card.slots]
    if not isinstance(value, dict):
        raise UsageProblem(f"line {number} must be an object of {', '.join(known)}")
    given = {name: text for name, text in value.items() if name in known}
    missing = [slot.name for slot in card.slots if slot.default is None and slot.name not in given]
    if missing:
        raise UsageProblem(f"line {number} has no {missing[0]}, which {card.id} needs")
    for name, text in given.items():
        if not isinstance(text, str):
            raise UsageProblem(f"line {number}: {name} must be a string")
    return given


def _request(task: ServedTask, number: int, values: Mapping[str, str]) -> str:
    prompt = {"id": task.card.id, "variables": values}
    body = {"model": task.model, "prompt": prompt, "store": False}
    line = {"custom_id": str(number), "method": "POST", "url": _ENDPOINT, "body": body}
    return f"{json.dumps(line, ensure_ascii=False)}\n"


def _print(client: BatchClient, ended: BatchState, given: list[object]) -> int:
    """Print a line for each input, in order; return how many have no answer."""
    answers: dict[int, Mapping[str, object]] = {}
    for file in (ended.output_file_id, ended.error_file_id):
        for text in client.lines(file):
            line = json.loads(text)
            answers[int(line["custom_id"])] = _result(line)
    failed = 0
    for number, value in enumerate(given, 1):
        result = answers.get(number, {"error": f"the batch is {ended.status}"})
        failed += "error" in result
        click.echo(json.dumps({"input": value, **result}, ensure_ascii=False))
    return failed


def _result(line: Mapping[str, Mapping[str, Mapping[str, object]]]) -> Mapping[str, object]:
    if line["error"] is not None:
        return {"error": line["error"]["message"]}
    body = line["response"]["body"]
    if body.get("error"):
        error = body["error"]
        return {"error": error["message"] if isinstance(error, dict) else str(error)}
    items = body.get("output")
    texts = [
        part["text"]
        for item in (items if isinstance(items, list) else [])
        for part in item.get("content") or ()
        if part.get("type") == "output_text"
    ]
    return {"answer": "".join(texts)}
