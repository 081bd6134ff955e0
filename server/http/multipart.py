"""Reads a form (multipart/form-data, RFC 7578) piece by piece: a file in it need not fit into memory. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from glmserve.http.errors import InvalidRequest

_MOST_HEADER_BYTES = 8 * 1024
_MOST_VALUE_BYTES = 64 * 1024
"""Of a field that is no file."""
_MOST_PARTS = 32
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is no file."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins; its content follows."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FileData:
    """More content of the file that has begun."""

    data: bytes


FormEvent = Field | FileStart | FileData


def boundary_of(content_type: str) -> bytes:
    """Return the text that separates the parts. Raises InvalidRequest."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise InvalidRequest("send the file as multipart/form-data, in a field that is called file")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("the boundary of the form is not valid")
    return boundary.encode()


class FormParser:
    """Takes the bytes of a form as they come."""

    def __init__(self, boundary: bytes) -> None:
        """``boundary`` is the one of the content type."""
        self._line = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # before the first boundary there need be none
        self._state = self._preamble
        self._field: str | None = None
        self._value = b""
        self._parts = 0
        self.is_complete = False
        """The last boundary has come."""

    def feed(self, data: bytes) -> Iterator[FormEvent]:
        """Yield the parts that ``data`` completes. Raises InvalidRequest where it is no form."""
        self._buffer += data
        while not self.is_complete:
            before = self._state, len(self._buffer)
            yield from self._state()
            if before == (self._state, len(self._buffer)):
                return

    def _preamble(self) -> Iterator[FormEvent]:
        found = self._buffer.find(self._line)
        if found >= 0:
            self._buffer = self._buffer[found + len(self._line) :]
            self._state = self._after_boundary
        else:
            self._buffer = self._buffer[-len(self._line) :]
        return iter(())

    def _after_boundary(self) -> Iterator[FormEvent]:
        end = self._buffer.find(b"\r\n")
        if self._buffer.startswith(b"--"):
            self.is_complete = True
        elif end >= 0 and not self._buffer[:end].strip(b" \t"):
            self._buffer = self._buffer[end:]
            self._state = self._headers
        elif end >= 0 or len(self._buffer) > _MOST_HEADER_BYTES:
            raise InvalidRequest("the form is not valid: there is text after a boundary")
        return iter(())

    def _headers(self) -> Iterator[FormEvent]:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MOST_HEADER_BYTES:
                raise InvalidRequest("the form is not valid: the headers of a part do not end")
            return
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise InvalidRequest(f"the form has more than {_MOST_PARTS} fields")
        name, filename = _names(self._buffer[2:end])
        self._buffer, self._state = self._buffer[end + 4 :], self._content
        # An empty content may have no line end of its own before the boundary.
        self._buffer = b"\r\n" + self._buffer if self._buffer.startswith(self._line[2:]) else self._buffer
        self._field, self._value = (name, b"") if filename is None else (None, b"")
        if filename is not None:
            yield FileStart(name, filename)

    def _content(self) -> Iterator[FormEvent]:
        found = self._buffer.find(self._line)
        end = found if found >= 0 else max(0, len(self._buffer) - len(self._line) + 1)
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        if self._field is None and data:
            yield FileData(data)
        elif self._field is not None:
            self._value += data
            if len(self._value) > _MOST_VALUE_BYTES:
                raise InvalidRequest(f"a field of the form has more than {_MOST_VALUE_BYTES} bytes")
        if found >= 0:
            self._buffer, self._state = self._buffer[len(self._line) :], self._after_boundary
            if self._field is not None:
                yield Field(self._field, _text(self._value))


def _names(head: bytes) -> tuple[str, str | None]:
    """Return the name of a part and its file name, if it is a file. Raises InvalidRequest."""
    for line in head.split(b"\r\n"):
        label, _, value = line.partition(b":")
        if label.strip().lower() == b"content-disposition":
            header = Message()
            header["content-disposition"] = _text(value.strip()).replace("\r", " ").replace("\n", " ")
            name, filename = header.get_param("name", header="content-disposition"), header.get_filename()
            if isinstance(name, str):
                is_file = header.get_param("filename", header="content-disposition") is not None
                return name, (filename or "") if is_file else None
    raise InvalidRequest("the form is not valid: a part has no name")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the form is not valid: a field is not UTF-8") from None
