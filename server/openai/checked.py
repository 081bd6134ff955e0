"""What requests of every kind are checked with: the base of their models, text in parts, the names of faults."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from server.errors import InvalidRequest, shown

_TEXT_PARTS = ("text", "input_text")


class Wire(BaseModel):
    """An object as it comes over the wire: types are not converted, and fields that are not declared are left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


_Request = TypeVar("_Request", bound=Wire)


def parse(kind: type[_Request], body: Mapping[str, object]) -> _Request:
    """Return ``body`` as a checked ``kind``.

    Raises:
        InvalidRequest: a field has a wrong value; ``param`` is its path.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False)[0]) from None


def invalid(message: str) -> PydanticCustomError:
    """Return what a validator raises; ``message`` goes on after the path of the field."""
    # The message is a value and not the template, so that braces in it stay braces.
    return PydanticCustomError("invalid", "{message}", {"message": message})


def _content(value: object) -> str:
    """Return the text of a message's content: a string, parts of text joined by line breaks, or null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_part(part, index) for index, part in enumerate(value))
    raise invalid("must be a string, a list of text parts, or null")


def _part(part: object, index: int) -> str:
    if not isinstance(part, dict):
        raise invalid(f"part {index} must be an object with type and text")
    if part.get("type") not in _TEXT_PARTS:
        raise invalid(f"part {index} has the type {shown(part.get('type'))}; only text parts are supported")
    if not isinstance(part.get("text"), str):
        raise invalid(f"part {index} must have its text as a string")
    return str(part["text"])


TextContent = Annotated[str, BeforeValidator(_content)]
"""A message's content: a string, parts of text, or null."""


def _explain(detail: ErrorDetails) -> InvalidRequest:
    path = _path(detail["loc"])
    if detail["type"] == "missing":
        return InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    message = detail["msg"]
    if detail["type"] == "too_short":
        message = "must not be empty"
    text = message.replace("Input should be", "must be", 1) if message.startswith("Input") else message
    return InvalidRequest(f"{path}: {text}", param=path)


def _path(location: tuple[int | str, ...]) -> str:
    """Return a location as a caller would write it, such as ``messages[0].content``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")
