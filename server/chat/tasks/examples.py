"""Examples of a task file: their table in TOML, the fields that are judged, and the check of both."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from glmserve.chat.tasks.judge import (
    WHOLE,
    AnswerField,
    Example,
    FieldKind,
    Values,
    number,
    read_fields,
    texts_of,
    values_of,
)
from glmserve.chat.tasks.task import Task, VariableError
from glmserve.engine.params import Grammar, GrammarKind

_Scalar = str | bool | int | float
_KINDS_OF_SCHEMA = {
    "boolean": FieldKind.LABEL,
    "integer": FieldKind.NUMBER,
    "number": FieldKind.NUMBER,
    "array": FieldKind.SET,
}


class WrongKeyError(ValueError):
    """The value at ``keys`` contradicts the rest of the file."""

    def __init__(self, message: str, *keys: str | int) -> None:
        super().__init__(message)
        self.keys = keys


class ExampleTable(BaseModel):
    """One of ``[[examples]]``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    text: str | None = None
    """Value of the variable without a default."""
    variables: dict[str, str] = {}
    answer: (
        Annotated[str, Field(min_length=1)]
        | list[_Scalar]
        | Annotated[dict[str, _Scalar | list[_Scalar]], Field(min_length=1)]
    )
    """The text of the right answer, or its fields."""


def answer_fields(
    declared: Mapping[str, FieldKind], grammar: Grammar | None, choice: Sequence[str] | None
) -> tuple[AnswerField, ...]:
    """Return the fields of the answers: the ``declared`` ones, or else the ones of the grammar."""
    if declared:
        return tuple(AnswerField(name, kind) for name, kind in declared.items())
    if choice is not None:
        return (AnswerField(WHOLE, FieldKind.LABEL),)
    of_schema = _of_schema(grammar.source) if grammar is not None and grammar.kind is GrammarKind.JSON_SCHEMA else ()
    return of_schema or (AnswerField(WHOLE, FieldKind.TEXT),)


def read_example(task: Task, index: int, table: ExampleTable) -> Example:
    """Return an example of ``task``; ``index`` is its place in the file.

    Raises:
        WrongKeyError: it does not fit the variables, the fields or the grammar.
    """
    variables = dict(table.variables)
    if table.text is not None:
        if task.main is None:
            raise WrongKeyError("no single variable needs a value; use variables", "examples", index, "text")
        variables[task.main] = table.text
    try:
        task.fill(variables)
    except VariableError as error:
        raise WrongKeyError(str(error), "examples", index) from None
    right = _right(task, table)
    problem = _problem(task, right)
    if problem:
        raise WrongKeyError(problem, "examples", index, "answer")
    return Example(variables, right)


def _of_schema(source: str) -> tuple[AnswerField, ...]:
    properties = json.loads(source).get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(AnswerField(name, _kind_of(schema)) for name, schema in properties.items())


def _kind_of(schema: object) -> FieldKind:
    if not isinstance(schema, dict):
        return FieldKind.TEXT
    if "enum" in schema or "const" in schema:
        return FieldKind.LABEL
    kind = schema.get("type")
    return _KINDS_OF_SCHEMA.get(kind, FieldKind.TEXT) if isinstance(kind, str) else FieldKind.TEXT


def _right(task: Task, table: ExampleTable) -> Mapping[str, Values]:
    """Return the right values; a text in a written answer is one of many right ones, so that none has to occur."""
    if isinstance(table.answer, str):
        texts = [field.name for field in task.fields if field.kind is FieldKind.TEXT]
        read = read_fields(task.fields, table.answer)
        return {name: () if name in texts else values for name, values in read.items()}
    given = {WHOLE: table.answer} if isinstance(table.answer, list) else table.answer
    kinds = {field.name: field.kind for field in task.fields}
    return {name: values_of(kinds.get(name, FieldKind.EXACT), texts_of(value)) for name, value in given.items()}


def _problem(task: Task, right: Mapping[str, Values]) -> str:
    """Return the fault of a right answer, or nothing."""
    kinds = {field.name: field.kind for field in task.fields}
    unknown = next((name for name in right if name not in kinds), None)
    if unknown is not None or not right:
        what = "it has no field" if unknown is None else f"{unknown!r} is no field"
        return f"{what}; the fields that are judged are: {', '.join(kinds)}"
    for name, values in right.items():
        if kinds[name] is FieldKind.NUMBER and any(number(value) is None for value in values):
            return f"{name} must be a number"
    return ""
