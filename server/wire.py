"""What every dialect needs of HTTP: the JSON body, and noticing that the caller hung up."""

import json
import re
from collections.abc import Iterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from server.errors import ClientGone, InvalidRequest, shown_name

_MOST_FIELDS = 50_000
"""In all objects of a body together: the longest chats have some thousands, and checking each takes microseconds."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


async def read_json_object(request: Request, *, unique_keys: bool = True) -> dict[str, object]:
    """Return the body as a JSON object, whatever its Content-Type says.

    Args:
        request: whose body it is.
        unique_keys: refuse an object that has a key twice; otherwise the last one counts.

    Raises:
        InvalidRequest: it is none, or holds what is no text or no number.
        BodyTooLarge: it is past the limit.
        ClientGone: the caller hung up before its end.
    """
    try:
        text = _decode(await request.body())
    except ClientDisconnect:
        raise ClientGone from None
    value = _parse(text, unique_keys=unique_keys)
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_json_type(value)}", code="invalid_json")
    if _SURROGATE_ESCAPE.search(text):
        _refuse_surrogates(value)
    return value


async def hung_up(request: Request) -> None:
    """Return once the caller has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _decode(body: bytes) -> str:
    try:
        # Strict, unlike json.loads itself: bytes that are half of a surrogate pair are no text.
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8: {error.reason}", code="invalid_json") from None


def _parse(text: str, *, unique_keys: bool) -> object:
    try:
        value: object = json.loads(
            text,
            parse_constant=_refuse_constant,
            object_pairs_hook=_Objects(unique_keys=unique_keys).make,
        )
    except json.JSONDecodeError as error:
        message = f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidRequest(message, code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply", code="invalid_json") from None
    except ValueError:
        # What is left is Python's limit on the digits of an integer.
        raise InvalidRequest("the body holds a number with too many digits", code="invalid_json") from None
    return value


def _refuse_constant(name: str) -> object:
    raise InvalidRequest(f"the body is not valid JSON: {name} is not a number", code="invalid_json")


class _Objects:
    """Makes the objects of one body, and counts what is in them."""

    def __init__(self, *, unique_keys: bool) -> None:
        self._unique_keys = unique_keys
        self._fields = 0

    def make(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Return an object of ``pairs``."""
        self._fields += 1 + len(pairs)
        if self._fields > _MOST_FIELDS:
            raise InvalidRequest(f"the body has more than {_MOST_FIELDS} fields, which is the limit")
        result = dict(pairs)
        if self._unique_keys and len(result) < len(pairs):
            _refuse_duplicates(pairs)
        return result


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            name = _printable(key)
            raise InvalidRequest(f"{name} appears twice in one object", param=name, code="invalid_json")
        seen.add(key)


def _refuse_surrogates(value: object) -> None:
    for path, text in _strings(value):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            where = _printable(path)
            raise InvalidRequest(
                f"{where} is not valid text: half of a surrogate pair at character {error.start}", param=where
            ) from None


def _strings(value: object) -> Iterator[tuple[str, str]]:
    """Yield every string in ``value`` with its path; an object's keys too."""
    left: list[tuple[str, object]] = [("", value)]
    while left:
        path, item = left.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, list):
            left.extend((f"{path}[{index}]", part) for index, part in enumerate(item))
        elif isinstance(item, dict):
            for key, part in item.items():
                inner = f"{path}.{key}" if path else key
                left += [(inner, key), (inner, part)]


def _printable(name: str) -> str:
    """Return ``name`` so that it can be sent back even where it is no valid text itself."""
    return shown_name(name.encode("utf-8", "backslashreplace").decode())


def _json_type(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
