"""Schemas that clients make of their types, each as the argument ``value`` of a tool.

Those of zod are what ``z.toJSONSchema(z.object({value: type}), {io: "input"})`` of zod 4.6.7 gives.
"""

import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from types import GenericAlias
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import BaseModel, Field, create_model
from typing_extensions import TypedDict

ZOD: dict[str, dict[str, object]] = json.loads(pathlib.Path(__file__).with_name("zod_schemas.json").read_text())


class _Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class _Point(NamedTuple):
    x: int
    y: float


class _Row(TypedDict, total=False):
    a: int


class _Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class _Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class _Node(BaseModel):
    value: int
    children: list["_Node"] = []


_Address = create_model("地址", 城市=(str, ...))


_TYPES: dict[str, Any] = {
    "py str": str, "py int": int, "py float": float, "py bool": bool, "py None": None, "py Any": Any,
    "py bytes": bytes, "py Decimal": decimal.Decimal, "py datetime": datetime.datetime, "py date": datetime.date,
    "py time": datetime.time, "py timedelta": datetime.timedelta, "py UUID": uuid.UUID, "py Path": pathlib.Path,
    "py Pattern": re.Pattern, "py IPv4": ipaddress.IPv4Address, "py IPv6Network": ipaddress.IPv6Network,
    "py AnyUrl": pydantic.AnyUrl, "py HttpUrl": pydantic.HttpUrl, "py SecretStr": pydantic.SecretStr,
    "py Json": pydantic.Json, "py Enum": _Colour, "py Literal": Literal["a", 1, None], "py Optional": int | None,
    "py list": list[int], "py list of any": list, "py frozenset": deque[str], "py dict": dict[str, int],
    "py dict of any": dict, "py dict of int": dict[int, str], "py OrderedDict": OrderedDict[str, float],
    "py dict of UUID": Mapping[uuid.UUID, int],
    "py dict of Literal": dict[Literal["x", "y"], int], "py tuple": tuple[int, str], "py tuple of any": tuple[int, ...],
    "py Sequence": Sequence[str], "py NamedTuple": _Point, "py TypedDict": _Row, "py model": _Cat,
    "py union": _Cat | _Dog, "py discriminated": Annotated[_Cat | _Dog, Field(discriminator="kind")],
    "py recursive": _Node, "py Chinese": _Address, "py list of Chinese": GenericAlias(list, _Address),
    "py constrained": Annotated[str, Field(min_length=1, max_length=9, pattern="^[a-z]+$")],
    "py bounded": Annotated[float, Field(gt=0, le=1, multiple_of=0.1)],
    "py port": Annotated[int, Field(ge=1, lt=65536)],
    "py base64": pydantic.Base64Str, "py aware": pydantic.AwareDatetime, "py past": pydantic.PastDate,
    "py size": pydantic.ByteSize, "py import": pydantic.ImportString, "py strict": pydantic.StrictInt,
}  # fmt: skip
PYDANTIC: dict[str, dict[str, object]] = {
    name: create_model("Arguments", value=(kind, ...)).model_json_schema() for name, kind in _TYPES.items()
}
