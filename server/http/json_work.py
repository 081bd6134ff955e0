"""An estimate of the work of parsing a JSON text, from its bytes, without parsing it. Pure.

A text of 8 MB may be one prompt, which takes milliseconds, or four million values, which take seconds and ten times
its memory. What costs is counted: values, their nesting and escapes. Punctuation within strings costs nothing.
"""

from collections.abc import Iterator

import numpy as np

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
