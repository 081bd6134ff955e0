"""A failed validation in JSON's words: the path as the caller wrote it, and the type that belongs there. Pure.

pydantic names Python's types, and puts the branch of a union into the path (``content.str``). A caller knows neither.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic_core import ErrorDetails

from glmserve.http.errors import InvalidRequest

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("string_type", "string_sub_type"), "a string"),
        **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "an integer"),
        **dict.fromkeys(("float_type", "float_parsing"), "a number"),
        **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
        **dict.fromkeys(("list_type", "tuple_type"), "an array"),
        **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "an object"),
    }
)
"""By pydantic's type of error (docs.pydantic.dev, "Validation Errors"): the JSON type that belongs there."""

_Path = tuple[int | str, ...]


def explain(errors: Sequence[ErrorDetails], body: object, at: str = "") -> InvalidRequest:
    """Return the error of a request.

    Args:
        errors: of one validation, in pydantic's order; of a union, one for each of its branches.
        body: the validated value.
        at: its path in the request.
    """
    places = [(_place(error, body), error) for error in errors]
    first = places[0][0]
    # The branch that fits best is wrong at a deeper place: of content: [5] the item, not the array.
    place = max((path for path, _ in places if path[: len(first)] == first), key=len)
    found = [error for path, error in places if path == place]
    path = f"{at}{''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in place)}".removeprefix(".")
    if found[0]["type"] == "missing":
        return InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    return InvalidRequest(f"{path}: {_message(found)}", param=path)


def _place(error: ErrorDetails, body: object) -> _Path:
    """Return where the error is in ``body``, without the names that pydantic gives to branches of a union."""
    place: list[int | str] = []
    value = body
    for part in error["loc"]:
        if isinstance(part, int) and isinstance(value, list | tuple):
            value = value[part] if part < len(value) else None
            place.append(part)
        elif isinstance(value, Mapping) and (part in value or error["type"] == "missing"):
            value = value.get(part)
            place.append(part)
    return tuple(place)


def _message(errors: Sequence[ErrorDetails]) -> str:
    words = list(dict.fromkeys(_WORDS[error["type"]] for error in errors if error["type"] in _WORDS))
    if words:
        return f"must be {' or '.join(words)}"
    if errors[0]["type"] == "too_short":
        return "must not be empty"
    return errors[0]["msg"].replace("Input should be", "must be", 1)
