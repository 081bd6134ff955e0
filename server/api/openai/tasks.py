"""The examples of a task and the judgement of their answers, under /v1/tasks/{id}."""

from collections.abc import Mapping
from functools import partial
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from typing_extensions import TypedDict

from glmserve.api.common.base import ListOf, RequestObject, parse
from glmserve.chat.tasks.judge import AnswerField, FieldScore, FieldVerdict, Judgement, judge
from glmserve.chat.tasks.task import Task
from glmserve.http.errors import InvalidRequest, PromptNotFound
from glmserve.http.offload import off_loop, read_request
from glmserve.http.openapi import Tag, documented

_ONE = "/v1/tasks/{task_id}"


class JudgedField(TypedDict):
    """A field of the answers that is judged, and how."""

    name: str
    kind: str


class ExampleObject(TypedDict):
    """Values of the variables, and the right values of each judged field."""

    variables: dict[str, str]
    right: dict[str, list[str]]


class ExampleList(TypedDict):
    """The examples of a task."""

    object: Literal["list"]
    task: str
    fields: list[JudgedField]
    data: list[ExampleObject]


class JudgeRequest(RequestObject):
    """Answers to the examples of a task."""

    answers: ListOf[str] = Field(description="An answer to each example, in their order.")


class ConfusionObject(TypedDict):
    """Counts of labels: a row for each right one, a column for each answered one; `""` is an answer without any."""

    right: list[str]
    answered: list[str]
    counts: list[list[int]]


class FieldScoreObject(TypedDict):
    """How many answers are right in one field; the confusion of a label."""

    name: str
    kind: str
    right: int
    of: int
    confusion: ConfusionObject | None


class FieldVerdictObject(TypedDict):
    """One field of one answer; `answered` is null if the answer does not have it."""

    name: str
    right: list[str]
    answered: list[str] | None
    is_right: bool


class VerdictObject(TypedDict):
    """One answer."""

    variables: dict[str, str]
    answer: str
    is_right: bool
    fields: list[FieldVerdictObject]


class JudgementObject(TypedDict):
    """Accuracy: the share of fields that are right; all_right: the share of answers that are right in all fields."""

    object: Literal["task.judgement"]
    task: str
    accuracy: float
    all_right: float
    fields: list[FieldScoreObject]
    answers: list[VerdictObject]


def create_router(tasks: Mapping[str, Task]) -> APIRouter:
    """Return the routes for ``tasks``."""
    router = APIRouter()

    @router.get(f"{_ONE}/examples", **documented(ExampleList, errors=(PromptNotFound,), tag=Tag.TEXT))
    async def examples(task_id: str) -> JSONResponse:
        """List the examples of a task with their right answers, and the fields that are judged."""
        return JSONResponse(_examples(_find(tasks, task_id)))

    @router.post(f"{_ONE}/judge", **documented(JudgementObject, JudgeRequest, errors=(PromptNotFound,), tag=Tag.TEXT))
    async def judge_answers(task_id: str, request: Request) -> JSONResponse:
        """Compare answers to the examples of a task with the right ones."""
        task = _find(tasks, task_id)
        body = await read_request(request, partial(parse, JudgeRequest))
        if len(body.answers) != len(task.examples):
            raise InvalidRequest(
                f"must have an answer to each of the {len(task.examples)} examples, not {len(body.answers)}",
                param="answers",
            )
        judgement = await off_loop(partial(judge, task.fields, task.examples, body.answers))
        return JSONResponse(_judgement(task, judgement))

    return router


def _find(tasks: Mapping[str, Task], task_id: str) -> Task:
    if task_id not in tasks:
        raise PromptNotFound(task_id, tuple(tasks))
    return tasks[task_id]


def _examples(task: Task) -> ExampleList:
    return {
        "object": "list",
        "task": task.id,
        "fields": [_field(field) for field in task.fields],
        "data": [
            {
                "variables": dict(example.variables),
                "right": {name: list(values) for name, values in example.right.items()},
            }
            for example in task.examples
        ],
    }


def _field(field: AnswerField) -> JudgedField:
    return {"name": field.name, "kind": field.kind.value}


def _judgement(task: Task, judgement: Judgement) -> JudgementObject:
    return {
        "object": "task.judgement",
        "task": task.id,
        "accuracy": judgement.accuracy,
        "all_right": judgement.all_right,
        "fields": [_score(score) for score in judgement.fields],
        "answers": [
            {
                "variables": dict(example.variables),
                "answer": verdict.answer,
                "is_right": verdict.is_right,
                "fields": [_verdict(field) for field in verdict.fields],
            }
            for example, verdict in zip(task.examples, judgement.verdicts, strict=True)
        ],
    }


def _score(score: FieldScore) -> FieldScoreObject:
    table = score.confusion
    confusion: ConfusionObject | None = None
    if table is not None:
        confusion = {
            "right": list(table.right),
            "answered": list(table.answered),
            "counts": [list(row) for row in table.counts],
        }
    return {**_field(score.field), "right": score.right, "of": score.of, "confusion": confusion}


def _verdict(field: FieldVerdict) -> FieldVerdictObject:
    return {
        "name": field.field.name,
        "right": list(field.right),
        "answered": None if field.answered is None else list(field.answered),
        "is_right": field.is_right,
    }
