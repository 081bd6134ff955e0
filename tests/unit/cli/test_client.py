"""Commands reach a server on this machine whatever proxy the environment names."""

import http.server
import threading
from collections.abc import Iterator

import httpx
import pytest

from glmserve.cli.client import ServerClient, server_client

MODELS = b'{"object": "list", "data": [{"id": "some"}]}'


@pytest.fixture
def server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(MODELS)))
            self.end_headers()
            self.wfile.write(MODELS)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1]
        running.shutdown()


@pytest.fixture(autouse=True)
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_used_for_a_server_on_this_machine(server: int, host: str) -> None:
    url = f"http://{host}:{server}"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert ServerClient(url).model_names() == ("some",)
    assert ServerClient(f"{url}/v1").tasks() == ()


@pytest.mark.parametrize("url", ["http://127.8.8.8:1", "http://[::1]:1", "http://LOCALHOST:1", "https://a.localhost"])
def test_every_address_of_this_machine_is_asked_directly(url: str) -> None:
    with server_client(url) as client:
        assert client._transport_for_url(httpx.URL(url)) is client._transport


@pytest.mark.parametrize("url", ["http://10.0.0.1", "http://server.example", "https://localhost.example"])
def test_other_servers_are_asked_through_it(url: str) -> None:
    with server_client(url) as client:
        assert client._transport_for_url(httpx.URL(url)) is not client._transport
