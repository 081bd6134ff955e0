"""The input of a batch: one request a line, checked before any is answered. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.batches.prefix_order import Key, in_prefix_order, prefix_key
from glmserve.batches.records import Line, LineProblem
from glmserve.http.errors import InvalidRequest, shown
from glmserve.http.json_body import parse_object

MOST_LINES = 50_000
"""OpenAI's bound."""
MOST_PROBLEMS = 50
"""Faults that are told; the rest of the input is not read."""
MOST_ID_CHARACTERS = 512

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""Addresses that the lines of a batch may name, all of them the same one."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A checked line."""

    custom_id: str
    body: Mapping[str, object]


class LineFault(Exception):
    """A line is no request of this batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        """``code`` is OpenAI's where it has one."""
        super().__init__(message)
        self.code = code
        self.param = param


def parse_line(text: bytes, endpoint: str) -> RequestLine:
    """Return a line as a request for ``endpoint``; its body is checked where it is answered.

    Raises:
        LineFault: it is none.
    """
    try:
        value = parse_object([text])
    except InvalidRequest as error:
        message = str(error).replace("the body", "the line", 1)
        raise LineFault("invalid_json_line", message, error.param) from None
    custom_id, url, body = value.get("custom_id"), value.get("url"), value.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MOST_ID_CHARACTERS:
        message = f"custom_id must be a string of 1 to {MOST_ID_CHARACTERS} characters"
        raise LineFault(
            "invalid_custom_id" if "custom_id" in value else "missing_required_parameter", message, "custom_id"
        )
    if value.get("method") != "POST":
        raise LineFault("invalid_method", "method must be POST", "method")
    if url != endpoint:
        raise LineFault("invalid_url", f"url is {shown(url)} and must be the endpoint of the batch, {endpoint}", "url")
    if not isinstance(body, dict):
        raise LineFault("missing_required_parameter", "body must be an object", "body")
    return RequestLine(custom_id, body)


class InputCheck:
    """Takes the content of an input file piece by piece, and knows its lines at the end."""

    def __init__(self, endpoint: str, most_line_bytes: int) -> None:
        """Lines are requests for ``endpoint``, of at most ``most_line_bytes``."""
        self._endpoint = endpoint
        self._most_line_bytes = most_line_bytes
        self._rest = b""
        self._offset = 0
        """Of ``_rest``."""
        self._number = 0
        self._ids: dict[str, int] = {}
        self._found: list[tuple[int, str, int, int]] = []
        self._keys: list[Key] = []
        self._models: set[str] = set()
        self._is_over = False
        self.problems: list[LineProblem] = []

    @property
    def has_failed(self) -> bool:
        """Whether the rest need not be read."""
        return self._is_over or len(self.problems) >= MOST_PROBLEMS

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if self.has_failed:
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._take(line)
            self._offset += len(line) + 1
        if len(self._rest) > self._most_line_bytes:
            self._problem("line_too_long", f"the line has more than {self._most_line_bytes} bytes", self._number + 1)
            self._is_over = True

    def finish(self) -> list[Line]:
        """Return the lines in the order of computation, which has no meaning where there are problems."""
        if self._rest and not self.has_failed:
            self._take(self._rest)
        self._rest = b""
        if not self._found and not self.problems:
            self._problem("empty_file", "the input file has no line", None)
        ordered = (self._found[index] for index in in_prefix_order(self._keys))
        return [Line(*found, rank) for rank, found in enumerate(ordered)]

    @property
    def model(self) -> str:
        """The model of all lines; empty where they name several, or none."""
        return next(iter(self._models)) if len(self._models) == 1 else ""

    def _take(self, line: bytes) -> None:
        self._number += 1
        start = len(line) - len(line.lstrip(b"\xef\xbb\xbf")) if self._number == 1 else 0
        text = line[start:]
        if self.has_failed or not text.strip():
            return
        if len(self._found) >= MOST_LINES:
            self._problem("too_many_requests", f"a batch has at most {MOST_LINES} requests", self._number)
            self._is_over = True
            return
        try:
            if len(text) > self._most_line_bytes:
                raise LineFault("line_too_long", f"the line has more than {self._most_line_bytes} bytes")
            self._add(parse_line(text, self._endpoint), self._offset + start, len(text))
        except LineFault as fault:
            self._problem(fault.code, str(fault), self._number, fault.param)

    def _add(self, request: RequestLine, start: int, length: int) -> None:
        earlier = self._ids.setdefault(request.custom_id, self._number)
        if earlier != self._number:
            message = f"custom_id is the one of line {earlier}; each line needs its own"
            raise LineFault("duplicate_custom_id", message, "custom_id")
        model = request.body.get("model")
        self._models.add(model if isinstance(model, str) else "")
        self._keys.append(prefix_key(request.body))
        self._found.append((self._number, request.custom_id, start, length))

    def _problem(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        self.problems.append(LineProblem(code, message, line, param))


def output_line(line_id: str, custom_id: str, request_id: str, status: int, body: str) -> bytes:
    """Return a line of an output or error file; ``body`` is the JSON text of the reply."""
    head = {"id": line_id, "custom_id": custom_id, "response": {"status_code": status, "request_id": request_id}}
    return f'{_dumped(head)[:-2]}, "body": {_one_line(body)}}}, "error": null}}\n'.encode()


def unanswered_line(line_id: str, custom_id: str, code: str, message: str) -> bytes:
    """Return the line of a request that was not answered."""
    error = {"code": code, "message": message}
    return f"{_dumped({'id': line_id, 'custom_id': custom_id, 'response': None, 'error': error})}\n".encode()


def _dumped(value: object) -> str:
    return _one_line(json.dumps(value, ensure_ascii=False))


_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""Characters that JSON leaves alone and that many a line splitter takes for an end of line."""


def _one_line(text: str) -> str:
    return text.translate(_LINE_ENDS) if not text.isascii() else text
