"""Numbers as callers write them: in quotation marks, or whole ones with a fraction of zero, as Gson has them."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)


def as_number(value: object) -> object:
    """Return the number in a string; any other value unchanged."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


def _whole(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    value = as_number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


AsNumber = BeforeValidator(as_number)
"""Takes the text of a number for the number. Anything else is left to the type."""

AsWhole = BeforeValidator(_whole)
"""The same for whole numbers."""

UNLIMITED = -1
"""A limit of tokens that asks for as many as there is room for."""

TokenLimit = Annotated[
    Annotated[int, Field(ge=UNLIMITED), AsWhole] | None,
    AfterValidator(lambda value: value or None),
    Field(
        description="Token limit of the answer, reduced to the space left in the context. -1: all of that space. "
        "0: not set."
    ),
]
"""Token limit of an answer. 0 is the same as absent: programs send it for an empty field."""
