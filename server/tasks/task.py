"""A stored prompt: a template with named slots, how to sample its answer, and what that has to look like. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.engine.grammar import Grammar

_SLOT = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}")
_OPENING = "{{"


class TemplateError(ValueError):
    """A template has braces that are no slot; ``offset`` is where, in characters."""

    def __init__(self, offset: int) -> None:
        super().__init__("{{ must be followed by the name of a variable and }}, as in {{text}}")
        self.offset = offset


class VariableError(ValueError):
    """The values do not fit the slots; ``variable`` is the one at fault."""

    def __init__(self, message: str, variable: str) -> None:
        super().__init__(message)
        self.variable = variable


@dataclass(frozen=True, slots=True)
class TaskSampling:
    """How the answer is sampled unless the request says otherwise; None leaves it to the model's defaults."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One stored prompt. A slot is written ``{{name}}``; what is filled in is never looked at for slots."""

    id: str
    template: str
    description: str = ""
    sampling: TaskSampling = field(default_factory=TaskSampling)
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the slots, in the order of the template."""
        return tuple(dict.fromkeys(_SLOT.findall(self.template)))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the template with every slot filled.

        Raises:
            VariableError: a slot has no value, or a value no slot.
        """
        names = self.variables
        for name in names:
            if name not in values:
                raise VariableError(f"the prompt {self.id!r} needs the variable {name!r}", name)
        for name in values:
            if name not in names:
                known = ", ".join(names) or "none"
                raise VariableError(f"the prompt {self.id!r} has no variable {name!r}; it has: {known}", name)
        return _SLOT.sub(lambda slot: values[slot[1]], self.template)


def check_template(template: str) -> None:
    """Check that every ``{{`` opens a slot. Raises TemplateError."""
    # Filled with as many other characters, so that offsets stay.
    rest = _SLOT.sub(lambda slot: "." * len(slot[0]), template)
    if _OPENING in rest:
        raise TemplateError(rest.index(_OPENING))
