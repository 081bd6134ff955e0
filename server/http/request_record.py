"""The record of the HTTP request that is being answered, and the middleware that opens it with a request id.

Middlewares and logging find it through a context variable. A generation does not: the router gives it a
``RequestContext``. Where there is no record, as in a test of a part, each reader gets a fresh one.
"""

import ipaddress
import math
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.request_context import RequestContext, RequestProgress

IGNORED_FIELDS = "x-glmserve-ignored-fields"
IGNORED_TOOLS = "x-glmserve-ignored-tools"
RELAXED_SCHEMAS = "x-glmserve-relaxed-schemas"
"""Response headers that list parts of the request without effect, or without the effect of a strict schema."""

_LISTED_AT_MOST = 32
"""Parts that such a header lists."""

CLIENT_CLOSED = 499
"""The status of a request whose client disconnected before the reply."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a key; 0 is unlimited."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Of prompts and answers together."""
    concurrent: int = 0
    """Requests at once."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One HTTP request, filled in while it is answered."""

    id: str = "-"
    """Value of the reply's X-Request-Id."""
    arrived: float = field(default_factory=time.monotonic)
    """On the monotonic clock, in seconds."""
    key: str = ""
    """Id of the API key that it came with, which is no secret; empty where the server has no keys."""
    limits: Limits | None = None
    """Limits of the key."""
    is_known: bool = True
    """False where the server has keys and this came without one, to an address that is open to all."""
    prefix_owner: str = ""
    """Key that alone may reuse the prompt's cells in the prefix cache; empty if keys share them."""
    address: str = ""
    """Where it came from: an address, or the network of one caller."""
    time_limit: float = 0.0
    """Seconds that it may take; 0 is any number."""
    generations: list[RequestProgress] = field(default_factory=list)
    """One for each prompt that an engine has taken, or for all inputs of a request for embeddings."""
    rejection: str = ""
    """Code of its error, if any."""
    failed: bool = False
    """A stream that had begun ended with an error."""
    status: int | None = None
    """Of the reply, once it has begun."""
    complete: bool = False
    """The reply was sent to its end."""
    strict_fields: bool = False
    """Fields that are not known are rejected, and not left out."""
    body_bytes: int = 0
    """Of the request, once it was read: work on it takes the longer the more there are."""
    log_texts: bool = False
    """Prompts and answers may be logged."""
    background: bool = False
    """It is a line of a batch, for which no client waits."""
    listed: dict[str, list[str]] = field(default_factory=dict)
    """By response header, the parts of the request that it lists."""

    @property
    def context(self) -> RequestContext:
        """The facts of the request, for its generations. Take it after the body was read, whose size it has."""
        return RequestContext(
            request_id=self.id,
            caller=self.caller,
            time_limit=self.time_limit,
            expires=self.arrived + self.time_limit if self.time_limit else math.inf,
            prefix_owner=self.prefix_owner,
            body_bytes=self.body_bytes,
            log_texts=self.log_texts,
            background=self.background,
            observer=self,
        )

    def begin(self, progress: RequestProgress) -> None:
        """Note that an engine has taken a prompt, whose answers are counted in ``progress``."""
        self.generations.append(progress)

    def relax(self, part: str) -> None:
        """Note a part of a schema that the grammar does not enforce."""
        self.list_in(RELAXED_SCHEMAS, part)

    @property
    def caller(self) -> str:
        """Key of fair scheduling: the API key, or the address without keys; lines of batches have one of their own."""
        return f"batch:{self.key}" if self.background else self.key or self.address

    @property
    def tokens(self) -> int:
        """All tokens that it has had so far."""
        return sum(one.prompt_tokens + one.completion_tokens for one in self.generations)

    def list_in(self, header: str, part: str) -> None:
        """List a part of the request in a response ``header``."""
        parts = self.listed.setdefault(header, [])
        if part not in parts and len(parts) < _LISTED_AT_MOST:
            parts.append(part)

    def seconds_left(self) -> float:
        """Return the remaining time of the limit in seconds; infinity without a limit."""
        return self.context.seconds_left()


_current: ContextVar[RequestRecord] = ContextVar("request_record")


def current_request() -> RequestRecord:
    """Return the record of the request that the running task answers."""
    return _current.get(None) or RequestRecord()


def enter_request(record: RequestRecord) -> None:
    """Make ``record`` the current one of this task and of its child tasks."""
    _current.set(record)


_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""Accepted characters of a client's request id: none that could forge a log line or a header."""

_HEADER_CHARACTERS = 100


class RequestIds:
    """Opens the record of each request, under the caller's X-Request-Id or a new one, and tells the id in the reply.

    The reply also says in ``openai-processing-ms`` how long it took until it began, and in headers of its own which
    parts of the request have no effect.
    """

    def __init__(self, app: ASGIApp, *, log_texts: bool = False) -> None:
        """Wrap ``app``; ``log_texts`` lets prompts and answers be logged."""
        self._app = app
        self._log_texts = log_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = RequestRecord(
            _request_id(Headers(scope=scope).get("x-request-id", "")),
            address=_address(scope),
            log_texts=self._log_texts,
        )
        enter_request(record)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")  # answers and errors are for their caller alone
                headers["X-Request-Id"] = record.id
                headers["request-id"] = record.id  # where Anthropic's clients look for it
                headers["openai-processing-ms"] = str(round((time.monotonic() - record.arrived) * 1000))
                headers.update({name: ", ".join(map(_header_text, parts)) for name, parts in record.listed.items()})
            await send(message)
            if message["type"] == "http.response.start":
                record.status = message["status"]
            elif message["type"] == "http.response.body":
                record.complete = not message.get("more_body", False)

        return await self._app(scope, receive, named)


def _address(scope: Scope) -> str:
    """Return where a request came from: an IPv4 address, or the network of /64 that one caller has of IPv6."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _header_text(text: str) -> str:
    """Return text from a request as part of a header: truncated, and with all but plain characters escaped."""
    return quote(text[:_HEADER_CHARACTERS], safe=" $()*+-./:=@[]_")


def _request_id(given: str) -> str:
    return given if _SANE.fullmatch(given) else f"req_{uuid.uuid4().hex}"
