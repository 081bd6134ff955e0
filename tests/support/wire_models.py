"""The clients' own types as a strict reference of what goes over the wire."""

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter

_T = TypeVar("_T")


def checked(kind: type[_T], data: object, *, beyond: Collection[str] = ()) -> _T:
    """Return ``data`` as ``kind``; nothing may be converted, and no field be unknown but those in ``beyond``."""
    value = TypeAdapter(kind).validate_json(_as_json(data), strict=True)
    unknown = {name for name in _unknown_fields(value) if name not in beyond}
    assert not unknown, f"fields that the client does not know: {unknown}"
    return value


def _as_json(data: object) -> bytes:
    return TypeAdapter(object).dump_json(data)


def _unknown_fields(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for name in type(value).model_fields:
            yield from _unknown_fields(getattr(value, name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _unknown_fields(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _unknown_fields(part)
