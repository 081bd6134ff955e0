"""The JSON body of a request: bounds of the work of parsing it, the parser, and its error messages. Pure.

A text of 8 MB may be one prompt, which takes milliseconds, or four million values, which take seconds and ten times
its memory. So the work is estimated first, from the bytes: values, their nesting and escapes.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from glmserve.http.errors import InvalidRequest, shown_name

MOST_WORK = 1_000_000
"""Units of one body."""
MOST = "100,000 objects, arrays and fields, or 500,000 values, or 1,000,000 escapes"
"""The limits, in words."""

_ESCAPE, _VALUE, _NESTING = 1, 2, 10
_CHUNK = 1 << 18
"""Bytes that are looked at in one piece: the interpreter can do something else between two of them."""
_COMMA, _QUOTE, _COLON, _BACKSLASH = b',":\\'
_OPEN = ord("{")
_LOWER = 0x20
"""The bit in which ``[`` differs from ``{``."""


def is_too_much(text: bytes) -> bool:
    """Return whether ``text``, in UTF-8, takes more than ``MOST_WORK`` to parse."""
    # With what is in strings it can only be more, and to leave that out takes ten times as long.
    return _exceeds(_units(chunk) for chunk in _chunks(text)) and _exceeds(_units_outside_strings(text))


def _exceeds(units: Iterator[int]) -> bool:
    total = 0
    for more in units:
        total += more
        if total > MOST_WORK:
            return True
    return False


def _chunks(text: bytes) -> Iterator[bytes]:
    for start in range(0, len(text), _CHUNK):
        yield text[start : start + _CHUNK]


def _units(chunk: bytes) -> int:
    codes = np.frombuffer(chunk, np.uint8)
    nestings = np.count_nonzero(codes | _LOWER == _OPEN) + np.count_nonzero(codes == _COLON)
    values, escapes = np.count_nonzero(codes == _COMMA), np.count_nonzero(codes == _BACKSLASH)
    return int(nestings * _NESTING + values * _VALUE + escapes * _ESCAPE)


def _units_outside_strings(text: bytes) -> Iterator[int]:
    """Yield the units of each chunk; a string or an escape may continue in the next one."""
    rest, within = b"", 0
    for chunk in _chunks(text):
        piece = rest + chunk
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        cut = len(piece) - backslashes % 2
        piece, rest = piece[:cut], piece[cut:]
        escapes = piece.count(b"\\") * _ESCAPE
        codes = np.frombuffer(piece.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
        # Odd from a quote on up to the next one.
        parity = np.cumsum(codes == _QUOTE, dtype=np.uint8) + np.uint8(within)
        yield escapes + _units(codes[parity & 1 == 0].tobytes())
        within = int(parity[-1]) & 1 if len(parity) else within


_MOST_DIGITS = 400
"""Of a number: to read longer ones takes a time that grows with the square of their length."""


def parse_object(body: list[bytes], *, unique_keys: bool = True) -> dict[str, object]:
    """Return the object in the only item of ``body``, which is taken out so that its memory is freed.

    Raises:
        InvalidRequest: it is none, or holds what is no text or no number, or too much to parse.
    """
    data = body.pop()
    text = _decode(data)
    if is_too_much(data if json.detect_encoding(data) == "utf-8" else text.encode()):
        raise InvalidRequest(f"the body exceeds the limit of {MOST}")
    # Looked for in the bytes: a text of wide characters takes four times as long.
    may_be_broken = b"\\ud" in data or b"\\uD" in data or b"\0" in data[:4]
    del data
    numbers = _Numbers()
    value = _parse(text, numbers, unique_keys=unique_keys)
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_json_type(value)}", code="invalid_json")
    del text
    if numbers.infinite or may_be_broken:
        _reject_impossible(value)
    return value


def _decode(body: bytes) -> str:
    try:
        # Strict, unlike json.loads itself: bytes that are half of a surrogate pair are no text.
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8: {error.reason}", code="invalid_json") from None


def _parse(text: str, numbers: "_Numbers", *, unique_keys: bool) -> object:
    try:
        # The hooks are Python's: while each begins, another thread may run.
        value: object = json.loads(
            text,
            parse_constant=_reject_constant,
            parse_int=numbers.whole,
            parse_float=numbers.fraction,
            object_pairs_hook=_unique if unique_keys else dict,
        )
    except json.JSONDecodeError as error:
        message = f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidRequest(message, code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply", code="invalid_json") from None
    return value


class _Numbers:
    """Reads the numbers of one body."""

    def __init__(self) -> None:
        self.infinite = False
        """One is larger than any float."""

    def whole(self, digits: str) -> int:
        """Return an integer."""
        _check_digits(digits)
        return int(digits)

    def fraction(self, digits: str) -> float:
        """Return a number with a point or an exponent."""
        _check_digits(digits)
        number = float(digits)
        self.infinite = self.infinite or math.isinf(number)
        return number


def _check_digits(digits: str) -> None:
    if len(digits) > _MOST_DIGITS:
        raise InvalidRequest("the body has a number with too many digits", code="invalid_json")


def _reject_constant(name: str) -> object:
    raise InvalidRequest(f"the body is not valid JSON: {name} is not a number", code="invalid_json")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of ``pairs``. Raises InvalidRequest where two have one key."""
    result = dict(pairs)
    if len(result) < len(pairs):
        name = _printable(Counter(key for key, _ in pairs).most_common(1)[0][0])
        raise InvalidRequest(f"{name} appears twice in one object", param=name, code="invalid_json")
    return result


def _reject_impossible(value: object) -> None:
    """Reject text that UTF-8 cannot encode, and numbers that are not finite, at any depth.

    The path is made for what is found alone: one for each value would take all the memory.

    Raises:
        InvalidRequest: there is such a value.
    """
    open_parts = [_parts({"": value})]
    names: list[int | str] = []
    while open_parts:
        for name, item in open_parts[-1]:
            fault = _fault(name) or _fault(item)
            if fault:
                path = [*names, name]
                where = _printable("".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip("."))
                raise InvalidRequest(f"{where} {fault}", param=where)
            if isinstance(item, list | dict):
                names.append(name)
                open_parts.append(_parts(item))
                break
        else:
            open_parts.pop()
            if names:
                names.pop()


def _parts(value: list[object] | dict[str, object]) -> Iterator[tuple[int | str, object]]:
    return iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))


def _fault(value: object) -> str:
    """Return the fault of a value by itself; empty if there is none."""
    if isinstance(value, float) and math.isinf(value):
        return "must be a finite number"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"is not valid text: half of a surrogate pair at character {error.start}"
    return ""


def _printable(name: str) -> str:
    """Return ``name`` so that it can be sent back even where it is no valid text itself."""
    return shown_name(name.encode("utf-8", "backslashreplace").decode())


def _json_type(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
