"""Errors of a request; ``error_replies`` has the reply to each.

ApiError
├── InvalidRequest           the body or one field of it; ``param`` names which
├── TextTooLong              too long for the context, found before tokenisation
├── BodyTooLarge             past the size limit
├── BodyTooSlow              the body did not arrive in time
├── ModelNotFound            no served model has that name
├── AddressNotFound          no route has that path
├── RouteNotServed           no served model supports the endpoint
├── WrongModelKind           the named model does not support the endpoint
├── PromptNotFound           no stored prompt has that id
├── ResponseNotFound         no response of that id is stored
│   └── PreviousResponseNotFound the same, for previous_response_id
├── StoredFileNotFound       no file of that id is stored
├── BatchNotFound            no batch of that id is stored
├── BatchConflict            a file or batch is not in the state for that
├── StorageFull              files and batches take all the space that they may
├── TooManyBatches           the caller has as many files or unfinished batches as it may
├── BatchesUnavailable       files and batches cannot be kept now
├── ThreadNotFound           a thread of Anthropic's API, none of which are stored
├── InvalidKey               no API key, or an unknown one
├── CrossSiteRejected        sent by a page of another site, without keys
├── HostRejected             the Host header is not the server's, without keys
├── RateLimited              past a limit of its key
├── RequestTimedOut          past the maximum duration of a request
├── HeaderFieldsTooLarge     past the limit of headers
├── MalformedRequest         not a valid HTTP/1.1 request, or an ambiguous one
├── UnsupportedEncoding      the body is compressed
├── ServerBusy               too many large bodies wait to be parsed
├── TooManyConnections       the connection limit is reached
├── UpstreamError            a model behind an upstream
│   ├── UpstreamRejected          it rejected the request, with a status of its own
│   ├── UpstreamUnavailable      it takes no requests now
│   │   └── UpstreamUnreachable      no connection can be made
│   ├── UpstreamFailed           it failed, rejects the server, or sent what is no reply
│   ├── UpstreamDied             it ended the reply before its end
│   └── UpstreamTimedOut         it sent nothing for too long
├── TextNotHere              the tokenizer of such a model is not here
└── ClientDisconnected       the client disconnected before the reply
"""

import reprlib

_SHOWN_CHARACTERS = 100
_shown = reprlib.Repr()
_shown.maxstring = _SHOWN_CHARACTERS


def shown(value: object) -> str:
    """Return ``value`` as an error message quotes it: callers send megabytes and deep nesting."""
    return _shown.repr(value)


def shown_name(name: str) -> str:
    """Return a field's name or path as an error quotes it."""
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"


class ApiError(Exception):
    """Root of the errors that the API process finds in a request."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        """``param`` is the path of the field; ``code`` overrides the one of the table."""
        super().__init__(message)
        self.param = None if param is None else shown_name(param)
        self.code = code


class InvalidRequest(ApiError):
    """The body, or one field of it, is not acceptable."""


class TextTooLong(ApiError):
    """The text is too long for the context, in any tokenisation."""

    def __init__(self, characters: int, context_length: int) -> None:
        """``context_length`` is in tokens."""
        super().__init__(
            f"the prompt has {characters} characters, far more than fit into the context of {context_length} tokens; "
            "shorten it",
            param="messages",
        )


class BodyTooLarge(ApiError):
    """The body is larger than the server takes."""

    def __init__(self, limit: int) -> None:
        """``limit`` is in bytes."""
        super().__init__(f"the request body is larger than the limit of {limit} bytes")


class BodyTooSlow(ApiError):
    """The body did not arrive in time, or was dropped in favour of others."""

    def __init__(self, seconds: float, rate: int) -> None:
        """The limit is ``seconds``, plus one second per ``rate`` bytes."""
        super().__init__(
            f"the request body did not arrive within {seconds:g} s plus 1 s per {rate} bytes; send it faster or smaller"
        )


class ModelNotFound(ApiError):
    """No served model has that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        """``known`` are the names there are."""
        super().__init__(f"the model {shown(name)} does not exist; served here: {', '.join(known)}", param="model")


class RouteNotServed(ApiError):
    """No served model supports the endpoint."""

    def __init__(self, route: str, known: tuple[str, ...]) -> None:
        """``known`` are the models there are."""
        super().__init__(f"no served model supports {route}; served models: {', '.join(known)}")


class AddressNotFound(ApiError):
    """No route has that path."""

    def __init__(self, method: str, path: str, hint: str) -> None:
        """``hint`` is advice for the caller."""
        super().__init__(f"there is nothing at {method} {shown_name(path)}; {hint}")


class WrongModelKind(ApiError):
    """The named model is an embedding model and the endpoint generates text, or the reverse."""

    def __init__(self, name: str, does: str, others: tuple[str, ...]) -> None:
        """``does`` is the model's kind; ``others`` are models of the requested kind."""
        known = ", ".join(others) or "none"
        super().__init__(f"the model {shown(name)} {does}; served models that do: {known}", param="model")


class PromptNotFound(ApiError):
    """No stored prompt has that id."""

    def __init__(self, prompt_id: str, known: tuple[str, ...]) -> None:
        """``known`` are the ids there are."""
        stored = ", ".join(known) or "none"
        super().__init__(f"there is no stored prompt {shown(prompt_id)}; stored here: {stored}", param="prompt.id")


class ResponseNotFound(ApiError):
    """No response of that id is stored."""

    def __init__(self, response_id: str, *, param: str | None = None) -> None:
        """``param`` is the field that named it, where one did."""
        super().__init__(
            f"there is no response {shown(response_id)}: it was not stored (store: false), was deleted, or was evicted "
            "when the store was full",
            param=param,
        )


class PreviousResponseNotFound(ResponseNotFound):
    """previous_response_id names a response that is not stored; 400, as at OpenAI, where retrieval is a 404."""


class StoredFileNotFound(ApiError):
    """No file of that id is stored, for this caller."""

    def __init__(self, file_id: str, *, param: str | None = None) -> None:
        """``param`` is the field that named it, where one did."""
        super().__init__(
            f"there is no file {shown(file_id)}: it was never stored, was deleted, or is expired", param=param
        )


class BatchNotFound(ApiError):
    """No batch of that id is stored, for this caller."""

    def __init__(self, batch_id: str) -> None:
        """``batch_id`` is as the caller wrote it."""
        super().__init__(f"there is no batch {shown(batch_id)}: it was never created, or ended long ago")


class BatchConflict(ApiError):
    """The file or batch is not in a state in which that is possible."""


class StorageFull(ApiError):
    """The files of batches take all the space that they may."""

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes`` is the space of the caller."""
        super().__init__(
            f"files and results of batches take all of their {most_bytes / 1e6:g} MB; delete files, or raise "
            "--batch-store-mb"
        )


class TooManyBatches(ApiError):
    """The caller has as many files or unfinished batches as it may."""

    def __init__(self, things: str, most: int) -> None:
        """There are ``most`` of these ``things``."""
        super().__init__(f"there are {most} {things}, which is the limit; delete some, or wait until some have ended")


class BatchesUnavailable(ApiError):
    """Files and batches cannot be kept: the folder cannot be used, or they are switched off."""


class ThreadNotFound(ApiError):
    """A thread of Anthropic's API is continued, and the server stores none."""

    def __init__(self, message_id: str) -> None:
        """``message_id`` is the message that the thread is continued from."""
        super().__init__(
            f"there is no thread with the message {shown(message_id)}, as this server stores no threads; send the "
            'whole conversation with "thread": {"type": "create"} or without thread',
            param="thread.previous_message_id",
        )


class InvalidKey(ApiError):
    """The request has no API key, or one that is not known."""

    def __init__(self, *, given: bool) -> None:
        """``given`` is True if the request had a key."""
        # OpenAI's words for it, by which LiteLLM tells this error from a bad request.
        problem = "Incorrect API key provided" if given else "there is no API key"
        super().__init__(f"{problem}; send one as Authorization: Bearer KEY or as x-api-key: KEY")


class CrossSiteRejected(ApiError):
    """A page of another site sent the request, and the server has no keys."""

    def __init__(self, origin: str | None) -> None:
        """``origin`` is the page's origin, if the browser sent it."""
        if origin is None:
            super().__init__("this server does not accept requests from pages of other sites")
            return
        super().__init__(
            f"pages of {shown(origin)} may not call this server; to allow them, start it with "
            f"--cors-origin {shown_name(origin)}"
        )


class HostRejected(ApiError):
    """The Host header names a host that is not this server's, and the server has no keys."""

    def __init__(self, authority: str) -> None:
        """``authority`` is the value of the Host header."""
        super().__init__(
            f"this server listens on loopback only and was called as {shown(authority)}; if that is its name, as "
            "behind a reverse proxy, start it with --allowed-host NAME"
        )


class RateLimited(ApiError):
    """The key has reached one of its limits."""

    def __init__(self, reason: str, retry_after: int) -> None:
        """``retry_after`` is in seconds."""
        super().__init__(f"{reason}; try again in {retry_after} s")
        self.retry_after = retry_after


class RequestTimedOut(ApiError):
    """The request took longer than the server lets one take."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` is the limit."""
        super().__init__(
            f"the request took more than {seconds:g} s, the limit of this server; ask for a shorter answer"
        )


class HeaderFieldsTooLarge(ApiError):
    """The request has more or longer headers than the server takes."""

    def __init__(self, size: int, number: int) -> None:
        """``size`` is the limit in bytes, ``number`` that of headers."""
        super().__init__(f"the request exceeds the limit of {number} headers or {size} bytes of headers")


class MalformedRequest(ApiError):
    """The bytes are not a valid HTTP/1.1 request, or one that can be read in two ways."""


class UnsupportedEncoding(ApiError):
    """The body is compressed."""

    def __init__(self, encoding: str) -> None:
        """``encoding`` is the value of Content-Encoding."""
        super().__init__(
            f"request bodies with Content-Encoding {shown(encoding)} are not supported; send the body uncompressed"
        )


class TooManyConnections(ApiError):
    """The connection limit is reached, and every connection has a request in progress."""

    def __init__(self) -> None:
        super().__init__("the server has reached its connection limit; try again in a second")


class ServerBusy(ApiError):
    """Too many large bodies wait to be parsed."""

    def __init__(self) -> None:
        super().__init__("too many large request bodies wait to be parsed; try again in a second")


class UpstreamError(ApiError):
    """The server behind a model rejected the request or failed."""


class UpstreamRejected(UpstreamError):
    """The upstream rejected the request: its status, below 500, and its message are the caller's."""

    def __init__(
        self, message: str, status: int, *, param: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        """``code`` is the upstream's own, if it has one in words; ``retry_after`` is in seconds, of a 429."""
        super().__init__(message, param=param, code=code)
        self.status = status
        self.retry_after = retry_after or None


class UpstreamUnavailable(UpstreamError):
    """The upstream cannot be reached, or takes no requests now."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        """``retry_after`` is in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamUnreachable(UpstreamUnavailable):
    """No connection to the upstream can be made."""


class UpstreamFailed(UpstreamError):
    """The upstream answered with an error of its own, with no valid reply, or rejected the key of this server."""


class UpstreamDied(UpstreamError):
    """The upstream's reply ended before its end."""


class UpstreamTimedOut(UpstreamError):
    """The upstream sent nothing for too long."""


class TextNotHere(ApiError):
    """The tokenizer of a model is at its upstream."""

    def __init__(self) -> None:
        super().__init__(
            "the tokenizer of this model is on the server that runs it, so its tokens cannot be told here",
            param="model",
        )


class ClientDisconnected(ApiError):
    """The client disconnected before the answer was complete."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection")
