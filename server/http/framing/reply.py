"""A request and its reply, as uvicorn keeps them, with the framing of HTTP/1.0."""

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class Exchange(RequestResponseCycle):
    """Sends a reply of unknown length in chunks; to an HTTP/1.0 caller as it is, ended by the end of the connection."""

    _ends_with_connection = False

    @property
    def speaks_1_1(self) -> bool:
        """Whether the caller understands chunks and interim replies."""
        return self.scope["http_version"] != "1.0"

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a part of the reply."""
        if message["type"] == "http.response.start" and not self.response_started:
            headers = [(name, value) for name, value in message.get("headers", []) if not _is_keep_alive(name, value)]
            message = {**message, "headers": headers}
            if not self.speaks_1_1 and not any(name.lower() == b"content-length" for name, _ in headers):
                self._ends_with_connection = self.chunked_encoding = True  # no Transfer-Encoding is added then
        elif message["type"] == "http.response.body" and self._ends_with_connection:
            self.chunked_encoding = False
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def _is_keep_alive(name: bytes, value: bytes) -> bool:
    """Return whether an application says so of a connection that is not its own: streams of sse-starlette do."""
    return name.lower() == b"connection" and value.lower() == b"keep-alive"
