"""Conversions ahead of serving: how far they are is told in the terminal, in the log, and to early callers."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

from rich.console import Console

from glmserve.bootstrap.model_source import ModelSource, convert_source
from glmserve.convert.cli import progress_bar
from glmserve.convert.pipeline import Progress as Step

log = logging.getLogger(__name__)

_LINE_SECONDS = 10.0
"""Between two lines of the log about a conversion."""
_SECONDS = 2.0
"""For the request of a caller; one is answered at a time."""
_RETRY_AFTER = 30


class Progress:
    """The models in conversion and their progress; written by one thread and read by another."""

    def __init__(self, *, tell: bool) -> None:
        """``tell``: callers may know more than that something is converted."""
        self._tell = tell
        self.text = "a checkpoint is being converted"

    @property
    def reason(self) -> str:
        """For callers; empty where they need a key for it."""
        return self.text if self._tell else ""


@contextmanager
def waiting_room(listener: socket.socket, progress: Progress) -> Iterator[None]:
    """Answer on ``listener`` while the block runs; connections that wait at its end are left to the server."""
    server = HTTPServer(listener.getsockname()[:2], _handler(progress), bind_and_activate=False)
    server.socket.close()
    server.socket = listener.dup()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(_SECONDS)
        server.server_close()


def _handler(progress: Progress) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version, sys_version = "glmserve", ""

        def do_GET(self) -> None:
            self._reject()

        def do_HEAD(self) -> None:
            self._reject()

        def do_POST(self) -> None:
            self._reject()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _reject(self) -> None:
            body = json.dumps(_reply(urlsplit(self.path).path, progress.reason), ensure_ascii=False).encode()
            self.send_response(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", str(_RETRY_AFTER))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = True

    return Handler


def _reply(path: str, reason: str) -> dict[str, object]:
    if path == "/health":
        return {"status": "converting", **({"reason": reason} if reason else {})}
    message = f"the server is not ready: {reason or 'a checkpoint is being converted'}; try again later"
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "engine_unavailable"}}


def convert_all(sources: Sequence[ModelSource], listener: socket.socket | None, *, tell: bool) -> None:
    """Convert checkpoints, and tell how far it is: by a bar or in the log, and callers. Raises ConvertError."""
    if not sources:
        return
    progress = Progress(tell=tell)
    with waiting_room(listener, progress) if listener else nullcontext():
        for source in sources:
            _convert(source, progress)


def _convert(source: ModelSource, progress: Progress) -> None:
    log.info("converting %s to %s, once", source.checkpoint, source.quant.value if source.quant else "")
    console = Console(stderr=True)
    next_line = time.monotonic() + _LINE_SECONDS
    with progress_bar(console) as bar:

        def tell(step: Step) -> None:
            nonlocal next_line
            bar(step)
            share = f"{step.done_bytes / max(1, step.total_bytes):.0%} of {step.total_bytes / 1e9:.2f} GB"
            progress.text = f"{source.name} is being converted: {share}"
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line += _LINE_SECONDS
                log.info("converting %s: %s", source.name, share)

        convert_source(source, tell)
