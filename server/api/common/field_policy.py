"""Policy for every field of a request, by name: supported, ignored, or rejected unless neutral.

Tables are data, so that the documentation can be made from them. A field that is in no list is left out, and the
caller is told of it: most are new in a client or meant for another server, and clients send them to every server.
Known fields that would change the answer and are not supported are refused: an answer without them is a wrong one.
Null and empty values never ask for anything, wherever they stand.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic.config import JsonDict

from glmserve.http.errors import InvalidRequest, shown_name
from glmserve.http.request_record import current_request


@dataclass(frozen=True, slots=True)
class Supported:
    """A field that works as OpenAI (or, for an extension, vLLM) documents it."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field that is accepted and has no effect, because no effect on the answer is asked for."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A field that would change the answer and is not supported, unless it asks for nothing."""

    name: str
    neutral: tuple[str | float | bool, ...] = ()
    """Values without effect, for the field or anywhere inside it."""
    note: str = ""


@dataclass(frozen=True)
class FieldPolicy:
    """Every field of one kind of request; no name is in two of the lists."""

    honoured: tuple[Supported, ...]
    ignored: tuple[Ignored, ...]
    refused: tuple[Rejected, ...]

    @cached_property
    def _rules(self) -> Mapping[str, Rejected | None]:
        """Rejected fields by name; None for accepted ones."""
        accepted = (*(field.name for field in self.honoured), *(field.name for field in self.ignored))
        return {**dict.fromkeys(accepted), **{rule.name: rule for rule in self.refused}}

    def check(self, body: Mapping[str, object]) -> None:
        """Reject fields that would change the answer and are not supported; note unknown ones.

        Raises:
            InvalidRequest: a field is not supported; or it is not known, where those are refused.
        """
        for name, value in body.items():
            rule = self._rules.get(name)
            if rule is not None:
                check_neutral(rule, value, name)
            elif value is not None and name not in self._rules:
                ignore_field(name)

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
            # An object or an array may hold these, too.
            neutral: JsonDict = {"enum": [*refused.neutral, "", None]}
            properties[refused.name] = {"anyOf": [neutral, {"type": "object"}, {"type": "array"}]}
        schema["additionalProperties"] = {"description": "left out, and named in the header x-glmserve-ignored-fields"}


def ignore_field(path: str) -> None:
    """Leave out the field at ``path``, which is not known. Raises InvalidRequest where such fields are refused."""
    record = current_request()
    if record.strict_fields:
        raise InvalidRequest(
            f"{shown_name(path)} is not a field that this server knows; leave it out",
            param=path,
            code="unknown_parameter",
        )
    record.ignore("fields", shown_name(path))


def check_neutral(rule: Rejected, value: object, path: str) -> None:
    """Refuse ``value`` of the field at ``path`` unless it asks for nothing. Raises InvalidRequest."""
    if _asks_nothing(value, rule.neutral):
        return
    note = f" ({rule.note})" if rule.note else ""
    raise InvalidRequest(
        f"{path} is not supported by this server{note}; leave it out", param=path, code="unsupported_parameter"
    )


def _asks_nothing(value: object, neutral: Collection[str | float | bool]) -> bool:
    """Return whether ``value`` contains only null, empty texts and ``neutral`` values."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
        # True equals 1, but does not mean it.
        elif part not in (None, "") and not any(
            part == one and isinstance(part, bool) is isinstance(one, bool) for one in neutral
        ):
            return False
    return True
