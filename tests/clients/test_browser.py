"""A page of another origin that calls the server from a browser."""

import http.server
import json
import queue
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.clients.conftest import Deployment
from tests.clients.programs import Told
from tests.conftest import running_server
from tests.support.chromium import find_chromium

PAGE = Path(__file__).with_name("browser_page.html")
BLIND = Path(__file__).with_name("blind_page.html")

# As Chromium 150 sends them for browser_page.html.
ORIGIN = "http://127.0.0.1:42049"
AGENT = (
    f"Origin: {ORIGIN}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "HeadlessChrome/150.0.7871.100 Safari/537.36\r\n"
    "Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Dest: empty\r\n"
    "Referer: http://127.0.0.1:42049/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\r\n"
)
PREFLIGHT = (
    "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\nAccept: */*\r\n"
    "Access-Control-Request-Method: POST\r\n"
    "Access-Control-Request-Headers: authorization,content-type\r\n"
)
BODY = (
    '{"model":"chatglm2-tiny","messages":[{"role":"user","content":"你好"}],'
    '"temperature":0,"stream":true,"max_tokens":3}'
).encode()
REQUEST = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n"
    f'Content-Length: {len(BODY)}\r\nsec-ch-ua-platform: "Linux"\r\nAuthorization: Bearer KEY\r\n'
    'sec-ch-ua: "Not;A=Brand";v="8", "Chromium";v="150", "HeadlessChrome";v="150"\r\n'
    "Content-Type: application/json\r\nsec-ch-ua-mobile: ?0\r\nAccept: */*\r\n"
)


class Connection:
    """One connection, on which a browser sends one request after the other."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), 30)

    def exchange(self, request: bytes, end: bytes) -> tuple[str, dict[str, str], str]:
        """Status line, headers and body of the reply, which ends with ``end``."""
        self._socket.sendall(request)
        reply = b""
        while not reply.endswith(end):
            piece = self._socket.recv(65536)
            assert piece, f"the server hung up after {reply!r}"
            reply += piece
        head, _, body = reply.decode().partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        return status, dict(line.lower().split(": ", 1) for line in lines), body


def test_the_bytes_of_chromium(deployment: Deployment) -> None:
    connection = Connection(deployment.url)
    status, headers, body = connection.exchange((PREFLIGHT + AGENT).encode(), b"OK")
    assert (status, body) == ("HTTP/1.1 200 OK", "OK"), "a preflight has no key"
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-headers"] == "authorization,content-type"
    assert "post" in headers["access-control-allow-methods"]
    asked = (REQUEST.replace("KEY", deployment.key) + AGENT).encode() + BODY
    status, headers, body = connection.exchange(asked, b"\r\n0\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in headers["access-control-expose-headers"]
    assert "content-encoding" not in headers, "what is packed cannot be read piece by piece"
    assert re.search(r"\r\ndata: \[DONE\]\n\n\r\n", body)


def test_a_page_that_may_call_may_do_so_from_the_public_web(deployment: Deployment) -> None:
    """Chrome 104 to 141 asks for it expressly; it was answered with 400, which ends the request."""
    asked = (PREFLIGHT + "Access-Control-Request-Private-Network: true\r\n" + AGENT).encode()
    status, headers, _ = Connection(deployment.url).exchange(asked, b"OK")
    assert status == "HTTP/1.1 200 OK"
    assert headers["access-control-allow-private-network"] == "true"


@contextmanager
def page(content: bytes) -> Iterator[tuple[str, "queue.Queue[Told]"]]:
    """Serve a page on an origin of its own; yields its address, and what the page sends back."""
    seen: queue.Queue[Told] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", seen
    finally:
        server.shutdown()


@contextmanager
def browsing(address: str, folder: Path, *further: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Chromium with a page open."""
    chromium = find_chromium()
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        *further,
    )
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        command = [chromium.path, *options, address]
        with subprocess.Popen(command, stdout=log, stderr=log, env=chromium.environment) as browser:
            try:
                yield browser
            finally:
                browser.kill()


def test_a_page_in_chromium(deployment: Deployment, tmp_path: Path) -> None:
    content = PAGE.read_text("utf-8").replace("ADDRESS", deployment.url).replace("KEY", deployment.key)
    with page(content.encode()) as (address, seen), browsing(address, tmp_path / "profile"):
        told = seen.get(timeout=60)
    assert "failed" not in told
    assert told["models"][:2] == ["chatglm2-tiny", "bert"]
    assert "glmserve" in told["streamed"]["content"]
    assert told["streamed"]["done"]
    assert told["streamed"]["id"].startswith("req_")
    assert (told["refused"]["status"], told["refused"]["error"]["param"]) == (400, "temperature")
    assert told["legacy"]["status"] == 200


NAMES = "--host-resolver-rules=MAP *.example 127.0.0.1"
"""The names of a page that has bound them to this machine."""


def prompt_tokens(url: str) -> int:
    return int(httpx.get(f"{url}/health").json()["models"][0]["stats"]["prompt_tokens"])


def test_a_page_of_the_web_does_nothing_on_a_server_without_keys(tiny_gguf: Path, tmp_path: Path) -> None:
    """In Chromium: a blind POST was computed, and what can be read without a preflight was read."""
    with running_server(str(tiny_gguf), log=tmp_path / "log") as (url, _):
        content = BLIND.read_text("utf-8").replace("ADDRESS", url).encode()
        with page(content) as (address, seen):
            foreign = address.replace("127.0.0.1", "evil.example")
            with browsing(foreign, tmp_path / "foreign", NAMES):
                assert seen.get(timeout=60) == {"blind": "opaque", "read": "hidden"}
            assert prompt_tokens(url) == 0, "it was computed"
            with browsing(address.replace("127.0.0.1", "localhost"), tmp_path / "local"):
                assert seen.get(timeout=60) == {"blind": "opaque", "read": 200}
            assert prompt_tokens(url) > 0
