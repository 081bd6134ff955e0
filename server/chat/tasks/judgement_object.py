"""The examples of a task and the judgement of its answers, as the API tells them and the command line reads them."""

from typing import Literal

from typing_extensions import TypedDict

from glmserve.chat.tasks.judge import AnswerField, FieldScore, FieldVerdict, Judgement
from glmserve.chat.tasks.task import Task


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


def examples_object(task: Task) -> ExampleList:
    """Return the examples of ``task``."""
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


def judgement_object(task: Task, judgement: Judgement) -> JudgementObject:
    """Return the judgement of the answers to the examples of ``task``."""
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
