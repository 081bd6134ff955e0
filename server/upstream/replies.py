"""The replies of an upstream: events, errors, token counts. Pure.

An upstream is a server with OpenAI's API, such as vLLM or SGLang. Its bytes are not trusted to be what they should be.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmserve.http.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimedOut,
    UpstreamUnavailable,
    shown,
)

MOST_EVENT_BYTES = 4 << 20
"""Of one event: some hundred times what the log-probabilities of a token take."""
_MOST_WORDS = 2000
"""Characters of an upstream's message that are passed on."""
_MOST_SECONDS = 3600
"""Of a Retry-After that is passed on."""

Json = Mapping[str, object]

_BUSY, _DOWN = 429, 503
_TIMEOUTS = (408, 504)
_KEYS = (401, 403, 407)


@dataclass(frozen=True, slots=True)
class Counts:
    """The tokens of a request, as the upstream counts them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int | None = None


def parsed(data: bytes) -> dict[str, object]:
    """Return a JSON object. Half of a surrogate pair and NaN are replaced, as UTF-8 and JSON have none.

    Raises:
        UpstreamFailed: it is none.
    """
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda _: None)
        if b"\\ud" in data or b"\\uD" in data:
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamFailed("the server that runs the model sent what is no JSON object")
    return value


class EventReader:
    """Bytes of server-sent events in, the data of whole events out, however they are cut."""

    def __init__(self, most: int = MOST_EVENT_BYTES) -> None:
        """An event may have ``most`` bytes."""
        self._most = most
        self._rest = bytearray()
        self._seen = 0
        """Bytes of the rest that have no end of line."""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of each event that ``data`` completes. Raises UpstreamFailed where one is too long."""
        self._rest += data
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._seen))) >= 0:
            event = self._take(bytes(self._rest[start:end]).removesuffix(b"\r"))
            start = end + 1
            if event is not None:
                yield event
        del self._rest[:start]
        self._seen = len(self._rest)
        if self._seen + self._size > self._most:
            raise UpstreamFailed(f"the server that runs the model sent an event of more than {self._most} bytes")

    def _take(self, line: bytes) -> bytes | None:
        """Return the data of the event that ``line`` ends, if it ends one."""
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            return data or None
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
            if self._size > self._most:
                raise UpstreamFailed(f"the server that runs the model sent an event of more than {self._most} bytes")
        return None


def rejection(status: int, retry_after: str, body: bytes) -> UpstreamError:
    """Return the error of a reply with ``status``; ``retry_after`` is its header, ``body`` the beginning of it."""
    fault = _fault(body)
    words = f"the server that runs the model says: {fault.message}"
    if status == _DOWN:
        return UpstreamUnavailable(words, _seconds(retry_after) or 5)
    if status in _TIMEOUTS:
        return UpstreamTimedOut(words)
    if status in _KEYS:
        return UpstreamFailed(f"the server that runs the model rejects the key of this server, with status {status}")
    if 300 <= status < 400:
        return UpstreamFailed(
            f"the server that runs the model redirects (status {status}), which is not followed; set upstream to "
            "where it is"
        )
    if 400 <= status < 500:
        wait = (_seconds(retry_after) or 1) if status == _BUSY else 0
        return UpstreamRejected(words, status, param=fault.param, code=fault.code, retry_after=wait)
    return UpstreamFailed(f"{words} (status {status})")


def failure_in(event: Json) -> UpstreamError | None:
    """Return the error that an event of a stream, or a reply with status 200, tells of; None where it is none."""
    if event.get("error") is None and event.get("object") != "error":
        return None
    return UpstreamFailed(f"the server that runs the model says: {_fault_of(event).message}")


@dataclass(frozen=True, slots=True)
class _Fault:
    message: str
    param: str | None = None
    code: str | None = None


def _fault(body: bytes) -> _Fault:
    try:
        return _fault_of(parsed(body))
    except UpstreamFailed:
        text = body.decode("utf-8", "replace").strip()
        return _Fault(shown(text) if text else "nothing")


def _fault_of(value: Json) -> _Fault:
    """Return the error of OpenAI's envelope, of vLLM's older one without ``error``, or of FastAPI's ``detail``."""
    inner = value.get("error", value)
    if not isinstance(inner, dict):
        return _Fault(_words(inner))
    said = next((inner[name] for name in ("message", "detail") if inner.get(name)), inner)
    param, code = inner.get("param"), inner.get("code")
    return _Fault(_words(said), param if isinstance(param, str) else None, code if isinstance(code, str) else None)


def _words(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"


def _seconds(retry_after: str) -> int:
    """Return the seconds of a Retry-After; 0 where it has none, as a date."""
    digits = retry_after.strip()
    return min(int(digits), _MOST_SECONDS) if digits.isdecimal() and len(digits) < 10 else 0


def counts_in(reply: Json) -> Counts | None:
    """Return the token counts of a reply or an event; None where it has none."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage, "prompt_tokens") or _count(usage, "total_tokens")
    details = usage.get("completion_tokens_details")
    reasoning = _count(details, "reasoning_tokens") if isinstance(details, dict) else _count(usage, "reasoning_tokens")
    cached = usage.get("prompt_tokens_details")
    return Counts(
        prompt,
        _count(usage, "completion_tokens"),
        min(prompt, _count(cached, "cached_tokens") if isinstance(cached, dict) else 0),
        reasoning or None,
    )


def _count(fields: Json, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def choices_in(event: Json) -> list[Json]:
    """Return the choices of a chunk that are objects."""
    choices = event.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
