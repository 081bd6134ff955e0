"""Stored prompts as files: a folder with one TOML file for each, all read when the server starts.

``review.toml`` is the prompt ``review``::

    description = "A review: 正面 or 负面"
    template = '''
    输入文本：{{text}}
    输出类别：'''

    [sampling]
    temperature = 0
    max_tokens = 8

    [grammar]
    choice = ["正面", "负面"]
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from server.engine.grammar import Grammar, GrammarKind, one_of
from server.tasks.task import Task, TaskSampling, TemplateError, check_template

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SUFFIX = ".toml"


class TaskFileError(Exception):
    """A stored prompt cannot be used; the message names the file and the line."""


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _SamplingTable(_Checked):
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class _GrammarTable(_Checked):
    """One of four ways to say what the answer looks like."""

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
        return Grammar(GrammarKind.LARK, self.lark or "")


class _TaskTable(_Checked):
    template: Annotated[str, Field(min_length=1)]
    description: str = ""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    sampling: _SamplingTable = _SamplingTable()
    grammar: _GrammarTable | None = None


def load_tasks(folder: Path | None) -> Mapping[str, Task]:
    """Return the stored prompts of ``folder`` by id; none where there is no folder.

    Raises:
        TaskFileError: one of the files cannot be used, or the folder not be read.
    """
    if folder is None:
        return MappingProxyType({})
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
        return MappingProxyType({path.stem: read_task(path) for path in paths})
    except OSError as error:
        raise TaskFileError(f"{error.filename}: cannot be read ({error.strerror})") from None


def read_task(path: Path) -> Task:
    """Return the stored prompt that ``path`` holds; the file's name without its ending is the id.

    Raises:
        TaskFileError: it is none.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TaskFileError(f"{path}:{line}: not valid UTF-8 ({error.reason})") from None
    try:
        return _task(path.stem, _TaskTable.model_validate(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise TaskFileError(f"{path}: not a TOML file ({error})") from None
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        keys = [str(part) for part in detail["loc"] if isinstance(part, str)]
        raise TaskFileError(f"{path}:{_line_of_key(text, keys)}: {'.'.join(keys)}: {detail['msg']}") from None
    except TemplateError as error:
        raise TaskFileError(f"{path}:{_line_of_brace(text)}: template: {error}") from None


def _task(name: str, table: _TaskTable) -> Task:
    # The line break before closing quotes on a line of their own is not meant.
    template = table.template.removesuffix("\n")
    check_template(template)
    grammar = None if table.grammar is None else table.grammar.grammar()
    sampling = TaskSampling(**table.sampling.model_dump())
    return Task(name, template, table.description, sampling, table.stop, grammar)


def _line_of_key(text: str, keys: Sequence[str]) -> int:
    """Return the line that sets the last of ``keys`` that is there, or the first line."""
    for key in reversed(keys):
        found = re.search(rf"^\s*(?:\[{re.escape(key)}\]|{re.escape(key)}\s*=)", text, re.MULTILINE)
        if found:
            return text.count("\n", 0, found.end()) + 1
    return 1


def _line_of_brace(text: str) -> int:
    try:
        check_template(text)
    except TemplateError as error:
        return text.count("\n", 0, error.offset) + 1
    return _line_of_key(text, ("template",))
