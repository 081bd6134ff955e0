"""Tasks as files: one TOML file each, from the package and from a folder, read at start.

``review.toml`` is the task ``review``::

    title = { zh = "评论分类", en = "Classify a review" }
    template = '''
    输入文本：{{text}}
    输出类别：'''

    [slots.text]
    example = "这部电影真是太精彩了！"

    [sampling]
    temperature = 0
    max_tokens = 8

    [grammar]
    choice = ["正面", "负面"]

``docs/tasks.md`` tells of every key.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from glmserve.chat.tasks.examples import ExampleTable, WrongKeyError, answer_fields, read_example
from glmserve.chat.tasks.judge import FieldKind
from glmserve.chat.tasks.task import (
    Task,
    TaskSampling,
    TemplateError,
    Variable,
    Words,
    check_template,
    variables_in,
    variables_in_grammar,
)
from glmserve.engine.grammar_backend import fault
from glmserve.engine.params import Grammar, GrammarKind, one_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SUFFIX = ".toml"
_BUILTIN = Path(__file__).with_name("builtin")
_LINE = "\n"
_ID = re.compile(r"[\w.-]+")
"""Characters that are safe behind the colon of a model's name, and in a shell."""


class TaskFileError(Exception):
    """A task cannot be used; the message names the file and the line."""


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _WordsTable(_Checked):
    zh: str = ""
    en: str = ""


def _words(value: object) -> object:
    return {"zh": value, "en": value} if isinstance(value, str) else value


_Words = Annotated[_WordsTable, BeforeValidator(_words)]
"""A text in both languages, or one text for both."""


class _VariableTable(_Checked):
    description: _Words = _WordsTable()
    example: str = ""
    default: str | None = None


class _SamplingTable(_Checked):
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class _GrammarTable(_Checked):
    """One of four ways to constrain the answer."""

    choice: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    regex: str | None = None
    json_schema: dict[str, object] | None = None
    lark: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "_GrammarTable":
        if len(self.model_fields_set) != 1:
            raise ValueError("must have exactly one of choice, regex, json_schema and lark")
        return self

    def grammar(self) -> Grammar:
        if self.choice is not None:
            return one_of(self.choice)
        if self.regex is not None:
            return Grammar(GrammarKind.REGEX, self.regex)
        if self.json_schema is not None:
            return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(self.json_schema, ensure_ascii=False))
        return Grammar(GrammarKind.LARK, self.lark or "", trusted=True)


class _TaskTable(_Checked):
    template: Annotated[str, Field(min_length=1)]
    title: _Words = _WordsTable()
    description: _Words = _WordsTable()
    slots: dict[str, _VariableTable] = {}
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    sampling: _SamplingTable = _SamplingTable()
    grammar: _GrammarTable | None = None
    fields: dict[Annotated[str, Field(min_length=1)], FieldKind] = {}
    examples: tuple[ExampleTable, ...] = ()


def load_tasks(folder: Path | None, *, builtin: bool = True) -> Mapping[str, Task]:
    """Return the tasks by id, from the package unless disabled, and from ``folder``.

    A file of the folder takes the place of a task of the package that has its id.

    Raises:
        TaskFileError: one of the files cannot be used, or the folder not be read.
    """
    folders = [_BUILTIN] if builtin else []
    folders += [] if folder is None else [folder]
    try:
        paths = [path for each in folders for path in sorted(each.iterdir()) if path.suffix == _SUFFIX]
        return MappingProxyType({path.stem: read_task(path) for path in paths})
    except OSError as error:
        raise TaskFileError(f"{error.filename}: cannot be read ({error.strerror})") from None


def read_task(path: Path) -> Task:
    """Return the task that ``path`` holds; the file's name without its ending is the id.

    Raises:
        TaskFileError: it is none.
        OSError: the file cannot be read.
    """
    if not _ID.fullmatch(path.stem):
        raise TaskFileError(
            f"{path}: the file name is the name of the task; rename it to letters, digits, . _ and - only"
        )
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TaskFileError(f"{path}:{line}: not valid UTF-8 ({error.reason})") from None
    try:
        return _task(path.stem, _TaskTable.model_validate(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise TaskFileError(f"{path}: not a TOML file ({error})") from None
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise TaskFileError(f"{path}:{_place(text, detail['loc'])}: {detail['msg']}") from None
    except TemplateError as error:
        raise TaskFileError(f"{path}:{_line_of_brace(text)}: template: {error}") from None
    except WrongKeyError as error:
        raise TaskFileError(f"{path}:{_place(text, error.keys)}: {error}") from None


def _task(name: str, table: _TaskTable) -> Task:
    # The line break before closing quotes on a line of their own is not meant.
    template = table.template.removesuffix("\n")
    check_template(template)
    grammar = None if table.grammar is None else table.grammar.grammar()
    variables = variables_in(template)
    known = f"the template has: {', '.join(variables) or 'none'}"
    for slot in table.slots:
        if slot not in variables:
            raise WrongKeyError(f"the template has no such variable; {known}", "slots", slot)
    for slot in (
        variables_in_grammar(grammar.source) if grammar is not None and grammar.kind is GrammarKind.LARK else ()
    ):
        if slot not in variables:
            raise WrongKeyError(f"there is no variable {slot!r}; {known}", "grammar", "lark")
    task = Task(
        name,
        template,
        title=_as_words(table.title),
        description=_as_words(table.description),
        notes={name: _as_variable(name, slot) for name, slot in table.slots.items()},
        sampling=TaskSampling(**table.sampling.model_dump()),
        stop=table.stop,
        grammar=grammar,
        fields=answer_fields(table.fields, grammar, None if table.grammar is None else table.grammar.choice),
    )
    _check_grammar(task)
    return replace(task, examples=tuple(read_example(task, at, one) for at, one in enumerate(table.examples)))


def _check_grammar(task: Task) -> None:
    """Compile the grammar once, with the examples in its variables, so that errors show at the start."""
    grammar = task.output_constraint(task.variable_examples).grammar
    problem = "" if grammar is None else fault(grammar)
    if problem:
        raise WrongKeyError(f"it cannot be used: {problem}", "grammar")


def _as_variable(name: str, table: _VariableTable) -> Variable:
    return Variable(name, _as_words(table.description), table.example, table.default)


def _as_words(table: _WordsTable) -> Words:
    return Words(table.zh, table.en)


def _place(text: str, location: Sequence[str | int]) -> str:
    """Return the line of a key, and the key itself."""
    keys = [part for part in location if isinstance(part, str)]
    name = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in location).removeprefix(".")
    if len(location) > 1 and isinstance(location[1], int) and (tables := _array(text, keys[0])):
        begin = tables[min(location[1], len(tables) - 1)]
        return f"{text.count(_LINE, 0, begin) + _line_of_key(text[begin:], keys[1:])}: {name}"
    return f"{_line_of_key(text, keys)}: {name}"


def _array(text: str, key: str) -> list[int]:
    """Return where the tables of an array begin."""
    return [found.start() for found in re.finditer(rf"^\[\[{re.escape(key)}\]\]", text, re.MULTILINE)]


def _line_of_key(text: str, keys: Sequence[str]) -> int:
    """Return the line that sets the last of ``keys`` that is there, or the first line."""
    for key in reversed(keys):
        found = re.search(rf"^\s*(?:\[(?:[^\]\n]*\.)?{re.escape(key)}\]|{re.escape(key)}\s*=)", text, re.MULTILINE)
        if found:
            return text.count(_LINE, 0, found.end()) + 1
    return 1


def _line_of_brace(text: str) -> int:
    try:
        check_template(text)
    except TemplateError as error:
        return text.count("\n", 0, error.offset) + 1
    return _line_of_key(text, ("template",))
