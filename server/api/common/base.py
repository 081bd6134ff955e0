"""Base of all request models: text in parts, and error messages that name the field in JSON's words."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema
from typing_extensions import TypedDict

from glmserve.api.common.field_policy import FieldPolicy
from glmserve.http.errors import InvalidRequest, shown

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


_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


class ApiModel(BaseModel):
    """An object as it comes over the wire: types are not converted, and fields that are not declared are left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


def _extend_schema(schema: JsonDict, kind: type) -> None:
    assert issubclass(kind, RequestObject)
    kind.policy.extend_schema(schema)


class RequestObject(ApiModel):
    """The body of a request, or an object in it, with a rule for every field that a client may send.

    The model declares the supported fields, once: the check of names, ``/openapi.json`` and ``docs/fields.md`` read
    them from it. ``policy`` has the fields that are ignored or rejected on purpose. Every other field is unknown.
    """

    model_config = ConfigDict(json_schema_extra=_extend_schema)

    path: ClassVar[str] = ""
    """Path in the body; empty for the body itself."""
    policy: ClassVar[FieldPolicy] = FieldPolicy()
    """The known fields that are not supported."""

    @classmethod
    def supported_fields(cls) -> frozenset[str]:
        """Return the names of the declared fields, as a request spells them."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def known_fields(cls) -> frozenset[str]:
        """Return the names of all fields that have a rule: supported, ignored or rejected."""
        return cls.supported_fields() | cls.policy.names

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Reject a model that declares a field and has it in its tables, too."""
        super().__pydantic_init_subclass__(**kwargs)
        if twice := cls.supported_fields() & cls.policy.names:
            raise TypeError(f"{cls.__name__} declares fields that its policy ignores or rejects: {sorted(twice)}")

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, value: object) -> object:
        if isinstance(value, dict):
            cls.policy.check(value, cls.supported_fields(), cls.path)
        return value


_Request = TypeVar("_Request", bound=ApiModel)
_Item = TypeVar("_Item")

ListOf = Annotated[list[_Item], Field(fail_fast=True)]
"""An array that is validated up to its first wrong item: an error for each item would use all the memory."""


@dataclass(frozen=True, slots=True)
class AtMost:
    """The largest number of parts of an object or array, checked before any of them is looked at."""

    most: int

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the parser."""
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema with the same bound."""
        shown = handler(schema)
        return {**shown, "maxItems" if shown.get("type") == "array" else "maxProperties": self.most}

    def _check(self, value: object) -> object:
        if isinstance(value, dict | list) and len(value) > self.most:
            parts = "fields" if isinstance(value, dict) else "items"
            raise invalid(f"may have at most {self.most} {parts}, not {len(value)}")
        return value


def parse(kind: type[_Request], body: Mapping[str, object], at: str = "") -> _Request:
    """Return ``body`` as a checked ``kind``; ``at`` is its path in the whole body, where it is not that itself.

    Raises:
        InvalidRequest: a field has a wrong value; ``param`` is its path.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise explain(error.errors(include_url=False), body, at) from None


def invalid(message: str) -> PydanticCustomError:
    """Return the error of a validator; ``message`` follows the path of the field."""
    # The message is a value and not the template, so that braces in it stay braces.
    return PydanticCustomError("invalid", "{message}", {"message": message})


def text_parts(value: object, kinds: Collection[str]) -> tuple[str, ...]:
    """Return the texts of a content: a string, or a list of parts of the types ``kinds``. Raises for a validator."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(_part(part, index, kinds) for index, part in enumerate(value))
    raise invalid("must be a string or a list of text parts")


def _part(part: object, index: int, kinds: Collection[str]) -> str:
    if not isinstance(part, dict):
        raise invalid(f"part {index} must be an object with type and text")
    kind = part.get("type")
    if kind not in kinds:
        raise invalid(f"part {index} has the type {shown(kind)}; only text parts are supported")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise invalid(f"part {index} must have its text as a string")
    return text


def _arguments(value: object) -> object:
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
    except RecursionError:
        raise invalid("is nested too deeply") from None


Arguments = Annotated[str, BeforeValidator(_arguments, json_schema_input_type=str | dict[str, object] | None)]
"""Arguments of an earlier call: JSON text, or the object itself."""


def _content(value: object) -> str:
    return "" if value is None else "\n".join(text_parts(value, _TEXT_PARTS))


class TextPart(TypedDict):
    """A piece of a message's text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusalPart(TypedDict):
    """A part of a message in which a model declined to answer."""

    type: Literal["refusal"]
    refusal: str


TextContent = Annotated[
    str, BeforeValidator(_content, json_schema_input_type=str | list[TextPart | RefusalPart] | None)
]
"""A message's content: a string, parts of text, which are joined by line breaks, or null."""
