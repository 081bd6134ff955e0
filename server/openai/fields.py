"""What becomes of every field of a request, by name: honoured, accepted without effect, or refused unless neutral.

Tables are data, so that the documentation can be made from them. A field that is in no list is refused by name: most
unknown fields are ones that some other server samples with, and an answer that silently ignores them is a wrong
answer. Null never asks for anything, so it is accepted everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic.config import JsonDict
from pydantic_core import to_jsonable_python

from server.errors import InvalidRequest, shown_name


@dataclass(frozen=True, slots=True)
class Honoured:
    """A field that does what OpenAI (or, for an extension, vLLM) says it does."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field that is accepted and has no effect, because no effect on the answer is asked for."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that would change the answer and is not supported; its ``neutral`` values are accepted."""

    name: str
    neutral: tuple[object, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class FieldTable:
    """Every field of one kind of request; no name is in two of the lists."""

    honoured: tuple[Honoured, ...]
    ignored: tuple[Ignored, ...]
    refused: tuple[Refused, ...]

    @cached_property
    def _rules(self) -> Mapping[str, Refused | None]:
        """What is refused by name; None for what is accepted."""
        accepted = (*(field.name for field in self.honoured), *(field.name for field in self.ignored))
        return {**dict.fromkeys(accepted), **{rule.name: rule for rule in self.refused}}

    def check(self, body: Mapping[str, object]) -> None:
        """Refuse what would change the answer and is not supported.

        Raises:
            InvalidRequest: a field is not supported, or not known.
        """
        for name, value in body.items():
            if value is None:
                continue
            if name not in self._rules:
                raise InvalidRequest(
                    f"{shown_name(name)} is not a field that this server knows; leave it out",
                    param=name,
                    code="unknown_parameter",
                )
            rule = self._rules[name]
            if rule is not None:
                check_neutral(rule, value, name)

    def complete(self, schema: JsonDict) -> None:
        """Complete the JSON schema of the honoured fields by the others; given as a model's ``json_schema_extra``."""
        properties = schema["properties"]
        assert isinstance(properties, dict)
        for honoured in self.honoured:
            entry = properties[honoured.name]
            assert isinstance(entry, dict)
            if honoured.note:
                entry["description"] = honoured.note
        for ignored in self.ignored:
            note = f": {ignored.note}" if ignored.note else ""
            properties[ignored.name] = {"description": f"accepted without effect{note}"}
        for refused in self.refused:
            properties[refused.name] = {"enum": [*map(to_jsonable_python, refused.neutral), None]}
        schema["additionalProperties"] = {"type": "null"}


def check_neutral(rule: Refused, value: object, path: str) -> None:
    """Refuse ``value`` of the field at ``path`` unless it is null or changes nothing. Raises InvalidRequest."""
    # The types are compared too, as True equals 1.
    if value is None or any(type(value) is type(neutral) and value == neutral for neutral in rule.neutral):
        return
    note = f" ({rule.note})" if rule.note else ""
    raise InvalidRequest(
        f"{path} is not supported by this server{note}; leave it out", param=path, code="unsupported_parameter"
    )
