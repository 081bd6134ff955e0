"""A task: a prompt with named variables, its sampling, the constraint of its answer, and its public card. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from typing_extensions import TypedDict

from glmserve.chat.tasks.judge import WHOLE, AnswerField, Example, FieldKind
from glmserve.engine.params import Grammar, GrammarKind

_VARIABLE = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}")
_GRAMMAR_VARIABLE = re.compile(r"\{\{\s*([^\W\d]\w*)\s*(?:\|\s*(numbers)\s*)?\}\}")
_NUMBER = re.compile(r"[0-9]+(?:[.,:][0-9]+)*")
_NEVER = "\ufdd0"
"""Placeholder of a text without numbers: a noncharacter of Unicode, which no text has."""
_OPENING = "{{"


class TemplateError(ValueError):
    """A template has braces that are no slot; ``offset`` is where, in characters."""

    def __init__(self, offset: int, problem: str = "{{ must be followed by the name of a variable and }}") -> None:
        super().__init__(f"{problem}, as in {{{{text}}}}")
        self.offset = offset


class VariableError(ValueError):
    """The values do not fit the slots; ``variable`` is the one at fault."""

    def __init__(self, message: str, variable: str) -> None:
        super().__init__(message)
        self.variable = variable


@dataclass(frozen=True, slots=True)
class Words:
    """A text for people, in both languages of the project."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template, and its description."""

    name: str
    description: Words = Words()
    example: str = ""
    default: str | None = None
    """Value of the variable when the request gives none; None makes it required."""


@dataclass(frozen=True, slots=True)
class TaskSampling:
    """Default sampling parameters of the task; None uses the model's defaults."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class OutputConstraint:
    """Constraint of an answer unless the request has its own."""

    grammar: Grammar | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A stored prompt. A slot is written ``{{name}}``; slots inside of values are not filled."""

    id: str
    template: str
    title: Words = Words()
    description: Words = Words()
    notes: Mapping[str, Variable] = field(default_factory=lambda: MappingProxyType({}))
    """Descriptions of the variables, by name; may be incomplete."""
    sampling: TaskSampling = field(default_factory=TaskSampling)
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    """A Lark one may have slots: ``{{text}}`` becomes a string literal, ``{{text|numbers}}`` any number of the text."""
    fields: tuple[AnswerField, ...] = (AnswerField(WHOLE, FieldKind.TEXT),)
    """The fields of the answer that are judged."""
    examples: tuple[Example, ...] = ()
    """Inputs with the right answers."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the slots, in the order of the template."""
        return variables_in(self.template)

    @property
    def slots(self) -> tuple[Variable, ...]:
        """All slots, in the order of the template."""
        return tuple(self.notes.get(name) or Variable(name) for name in self.variables)

    @property
    def main(self) -> str | None:
        """The one slot that must be given something: a message fills it. None where there is none, or several."""
        needed = [slot.name for slot in self.slots if slot.default is None]
        return needed[0] if len(needed) == 1 else None

    @property
    def variable_examples(self) -> Mapping[str, str]:
        """An example for each slot that must be filled."""
        return {slot.name: slot.example or slot.name for slot in self.slots if slot.default is None}

    @property
    def beginning(self) -> str:
        """The text that all prompts with the defaults begin with."""
        defaults = {slot.name: slot.default for slot in self.slots}
        end = next((slot.start() for slot in _VARIABLE.finditer(self.template) if defaults[slot[1]] is None), None)
        return _VARIABLE.sub(lambda slot: defaults[slot[1]] or "", self.template[:end])

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the template with every slot filled.

        Raises:
            VariableError: a slot has no value, or a value no slot.
        """
        complete = self._complete(values)
        return _VARIABLE.sub(lambda slot: complete[slot[1]], self.template)

    def output_constraint(self, values: Mapping[str, str]) -> OutputConstraint:
        """Return the constraint of the answer to the task with ``values``.

        Raises:
            VariableError: a slot has no value, or a value no slot.
        """
        complete, grammar = self._complete(values), self.grammar
        if grammar is not None and grammar.kind is GrammarKind.LARK:
            source = _GRAMMAR_VARIABLE.sub(lambda slot: _in_lark(complete[slot[1]], slot[2]), grammar.source)
            grammar = replace(grammar, source=source)
        return OutputConstraint(grammar, self.stop)

    def _complete(self, values: Mapping[str, str]) -> Mapping[str, str]:
        complete = {slot.name: slot.default for slot in self.slots} | dict(values)
        for name, value in complete.items():
            if name not in self.variables:
                known = ", ".join(self.variables) or "none"
                raise VariableError(f"the prompt {self.id!r} has no variable {name!r}; it has: {known}", name)
            if value is None:
                raise VariableError(f"the prompt {self.id!r} needs the variable {name!r}", name)
        return {name: value for name, value in complete.items() if value is not None}


def task_name(model: str, task_id: str) -> str:
    """Return the name under which the model called ``model`` does a task."""
    return f"{model}:{task_id}"


def variables_in(template: str) -> tuple[str, ...]:
    """Return the names of the slots of ``template``, each once, in its order."""
    return tuple(dict.fromkeys(_VARIABLE.findall(template)))


def variables_in_grammar(source: str) -> tuple[str, ...]:
    """Return the names of the slots of a Lark grammar, each once, in its order."""
    return tuple(dict.fromkeys(slot[1] for slot in _GRAMMAR_VARIABLE.finditer(source)))


def check_template(template: str) -> None:
    """Check that every ``{{`` opens a slot. Raises TemplateError."""
    # Filled with as many other characters, so that offsets stay.
    rest = _VARIABLE.sub(lambda slot: "." * len(slot[0]), template)
    if _OPENING in rest:
        raise TemplateError(rest.index(_OPENING))


def _in_lark(value: str, what: str | None) -> str:
    """Return the Lark expression that stands for ``value``, or for each of its numbers."""
    if what is None:
        return _literal(value)
    numbers = sorted(set(_NUMBER.findall(value))) or [_NEVER]
    return f"({' | '.join(map(_literal, numbers))})"


def _literal(value: str) -> str:
    """Return ``value`` as a string of Lark and of JSON, which nothing in it can end: all but letters is escaped."""
    return '"' + "".join(c if c.isalnum() else _escaped(c) for c in value) + '"'


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


class WordsObject(TypedDict):
    """A text for people in two languages."""

    zh: str
    en: str


class VariableObject(TypedDict):
    """A variable of a task, required unless it has a default."""

    name: str
    description: WordsObject
    example: str
    default: str | None


class TaskObject(TypedDict):
    """A task; a message to it fills its main slot."""

    id: str
    title: WordsObject
    description: WordsObject
    slots: list[VariableObject]
    main_slot: str | None


def task_card(task: Task) -> TaskObject:
    """Return the public description of ``task``."""
    return {
        "id": task.id,
        "title": _words_object(task.title),
        "description": _words_object(task.description),
        "slots": [
            {
                "name": slot.name,
                "description": _words_object(slot.description),
                "example": slot.example,
                "default": slot.default,
            }
            for slot in task.slots
        ],
        "main_slot": task.main,
    }


def _words_object(words: Words) -> WordsObject:
    return {"zh": words.zh, "en": words.en}
