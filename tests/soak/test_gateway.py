"""Two servers behind smg, from PyPI, as deploy/gateway sets it up: the share of cached tokens, death, draining."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.fleet import (
    GATEWAY,
    MODEL,
    Fleet,
    behind,
    cached_share,
    drain_one,
    flags_of,
    installed,
    kill_one,
    package_of,
    two_servers,
)
from tests.support.proxies import running_proxy

UNIT = (GATEWAY / "smg.service").read_text("utf-8")
NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  SAMPLE
}
"""


@pytest.fixture(scope="module")
def smg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway in an environment of its own."""
    return installed(package_of(UNIT), "smg", tmp_path_factory.mktemp("smg"))


@pytest.fixture
def fleet(smg: Path, tiny_gguf: Path, tmp_path: Path) -> Iterator[Fleet]:
    with behind([smg, "launch", *flags_of(UNIT)], tiny_gguf, tmp_path) as found:
        yield found


def test_the_share_of_cached_tokens(fleet: Fleet) -> None:
    share = cached_share(lambda _: fleet.post)
    print(f"share of cached prompt tokens behind smg: {share:.3f}")
    assert share >= 0.72
    served = [httpx.get(f"{url}/v1/loads").json()["loads"][0] for url, _ in fleet.servers]
    assert [load["num_running_reqs"] for load in served] == [0, 0]


def test_all_dialects_pass(fleet: Fleet) -> None:
    messages = [{"role": "user", "content": "你好"}]
    for path, body in (
        ("/v1/chat/completions", {"messages": messages, "max_tokens": 5}),
        ("/v1/completions", {"prompt": "你好", "max_tokens": 5}),
        ("/v1/messages", {"messages": messages, "max_tokens": 5}),
        ("/v1/responses", {"input": "你好", "max_output_tokens": 16}),
    ):
        assert fleet.post(path, body).status_code == 200, path
        streamed = fleet.post(path, {**body, "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream"), path
        assert '"error":{' not in streamed.text, path


def test_a_drained_server_loses_nothing(fleet: Fleet) -> None:
    assert set(drain_one(fleet)) == {"whole"}


def test_a_killed_server_costs_the_answers_that_it_wrote(fleet: Fleet) -> None:
    before, after = kill_one(fleet)
    assert set(before) == set(after) == {"whole"}


def test_nginx_alone_keeps_each_caller_at_one_server(tiny_gguf: Path, tmp_path: Path) -> None:
    """The hash of deploy/gateway/nginx.conf for all addresses, as a service with session affinity does it."""
    with two_servers(tiny_gguf, tmp_path) as servers:
        sample = (GATEWAY / "nginx.conf").read_text("utf-8").replace("http://gateway", "http://replicas")
        for name, (url, _) in zip(("10.0.0.11:8000", "10.0.0.12:8000"), servers, strict=True):
            sample = sample.replace(name, url.removeprefix("http://"))
        sample = sample.replace("listen 80", "listen 127.0.0.1:{port}")
        command = ["nginx", "-p", ".", "-c", "conf"]
        with running_proxy("nginx", command, NGINX.replace("SAMPLE", sample), tmp_path) as url:

            def post(number: int, path: str, body: dict[str, object]) -> httpx.Response:
                headers = {"Authorization": f"Bearer caller-{number}"}
                return httpx.post(url + path, json={"model": MODEL, **body}, headers=headers, timeout=120)

            share = cached_share(lambda number: partial(post, number))
        print(f"share of cached prompt tokens behind nginx with hash: {share:.3f}")
        assert share >= 0.72
