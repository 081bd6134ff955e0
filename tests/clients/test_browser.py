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

from tests.clients.conftest import Deployment
from tests.clients.programs import Told
from tests.support.chromium import find_chromium

PAGE = Path(__file__).with_name("browser_page.html")

# As Chromium 150 sends them for browser_page.html.
AGENT = (
    "Origin: http://127.0.0.1:42049\r\n"
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
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "authorization,content-type"
    assert "post" in headers["access-control-allow-methods"]
    asked = (REQUEST.replace("KEY", deployment.key) + AGENT).encode() + BODY
    status, headers, body = connection.exchange(asked, b"\r\n0\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in headers["access-control-expose-headers"]
    assert "content-encoding" not in headers, "what is packed cannot be read piece by piece"
    assert re.search(r"\r\ndata: \[DONE\]\n\n\r\n", body)


def test_a_page_of_the_public_web_may_call_a_server_at_home(deployment: Deployment) -> None:
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


def test_a_page_in_chromium(deployment: Deployment, tmp_path: Path) -> None:
    chromium = find_chromium()
    content = PAGE.read_text("utf-8").replace("ADDRESS", deployment.url).replace("KEY", deployment.key)
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path}",
    )
    with page(content.encode()) as (address, seen), (tmp_path / "log").open("wb") as log:
        command = [chromium.path, *options, address]
        with subprocess.Popen(command, stdout=log, stderr=log, env=chromium.environment) as browser:
            try:
                told = seen.get(timeout=60)
            finally:
                browser.kill()
    assert "failed" not in told
    assert told["models"][:2] == ["chatglm2-tiny", "bert"]
    assert "glmserve" in told["streamed"]["content"]
    assert told["streamed"]["done"]
    assert told["streamed"]["id"].startswith("req_")
    assert (told["refused"]["status"], told["refused"]["error"]["param"]) == (400, "temperature")
    assert told["legacy"]["status"] == 200
