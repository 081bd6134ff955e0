"""Fields of a request that are not supported: ignored on purpose, rejected on purpose, or unknown.

A supported field is declared once, on its pydantic model (``RequestObject`` in ``base.py``): name, bounds, description.
The tables here hold only the other known fields, as data from which the documentation is made:

- an ignored field is accepted, because it asks for no change of the answer;
- a rejected field would change the answer, so an answer without it would be wrong. Null, empty and neutral values pass.

Any other field is unknown: clients send such fields to every server. It is left out, and a header of the reply names
it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic.config import JsonDict

from glmserve.http.errors import InvalidRequest, shown_name
from glmserve.http.request_record import IGNORED_FIELDS, current_request


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field that is accepted and has no effect."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A field that would change the answer and is not supported."""

    name: str
    neutral: tuple[str | float | bool, ...] = ()
    """Accepted values: they ask for no change, as the value itself or anywhere in it."""
    note: str = ""


@dataclass(frozen=True)
class FieldPolicy:
    """The known fields of one object in a request that its model does not declare; no name is in both lists."""

    ignored: tuple[Ignored, ...] = ()
    rejected: tuple[Rejected, ...] = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all fields in the tables."""
        return frozenset((*(field.name for field in self.ignored), *self._rejected))

    @cached_property
    def _rejected(self) -> Mapping[str, Rejected]:
        return {field.name: field for field in self.rejected}

    def check(self, given: Mapping[str, object], supported: Collection[str], path: str) -> None:
        """Check the names of the fields that an object at ``path`` has beside the ``supported`` ones.

        Raises:
            InvalidRequest: a field is rejected; or it is unknown, and the server rejects unknown fields.
        """
        for name, value in given.items():
            if name in supported:
                continue
            where = f"{path}.{name}" if path else name
            if name in self._rejected:
                check_neutral(self._rejected[name], value, where)
            elif value is not None and name not in self.names:
                ignore_field(where)

    def extend_schema(self, schema: JsonDict) -> None:
        """Add the ignored and rejected fields to the JSON schema of a model."""
        properties = schema.setdefault("properties", {})
        assert isinstance(properties, dict)
        for ignored in self.ignored:
            properties[ignored.name] = {"description": _sentences("Accepted without effect.", ignored.note)}
        for rejected in self.rejected:
            # An object or an array may hold these values, too.
            neutral: JsonDict = {"enum": [*rejected.neutral, "", None]}
            properties[rejected.name] = {
                "description": _sentences("Not supported.", rejected.note),
                "anyOf": [neutral, {"type": "object"}, {"type": "array"}],
            }
        schema["additionalProperties"] = {"description": "Ignored. The header x-glmserve-ignored-fields names it."}


def _sentences(first: str, note: str) -> str:
    return f"{first} {note[:1].upper()}{note[1:]}." if note else first


def ignore_field(path: str) -> None:
    """Leave out the field at ``path``, which is not known. Raises InvalidRequest where such fields are rejected."""
    record = current_request()
    if record.strict_fields:
        raise InvalidRequest(
            f"{shown_name(path)} is not a field that this server knows; leave it out",
            param=path,
            code="unknown_parameter",
        )
    record.list_in(IGNORED_FIELDS, shown_name(path))


def check_neutral(rule: Rejected, value: object, path: str) -> None:
    """Reject ``value`` of the field at ``path`` unless it asks for nothing. Raises InvalidRequest."""
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
