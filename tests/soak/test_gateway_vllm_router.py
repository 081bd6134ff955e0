"""Two servers behind vllm-router, from PyPI: the share of cached tokens, what it passes on, death, draining."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import GATEWAY, Fleet, behind, cached_share, drain_one, flags_of, installed, kill_one

PACKAGE = "vllm-router==0.1.17"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway in an environment of its own."""
    return installed(PACKAGE, "vllm-router", tmp_path_factory.mktemp("router"))


@pytest.fixture
def fleet(router: Path, tiny_gguf: Path, tmp_path: Path) -> Iterator[Fleet]:
    flags = flags_of((GATEWAY / "smg.service").read_text("utf-8"))
    with behind([router, *flags], tiny_gguf, tmp_path) as found:
        yield found


def test_the_share_of_cached_tokens(fleet: Fleet) -> None:
    share = cached_share(lambda _: fleet.post)
    print(f"share of cached prompt tokens behind vllm-router: {share:.3f}")
    assert share >= 0.72


def test_what_it_passes_on(fleet: Fleet) -> None:
    messages = [{"role": "user", "content": "你好"}]
    for path, body in (
        ("/v1/chat/completions", {"messages": messages, "max_tokens": 5}),
        ("/v1/completions", {"prompt": "你好", "max_tokens": 5}),
        ("/v1/responses", {"input": "你好", "max_output_tokens": 16}),
        ("/v1/messages", {"messages": messages, "max_tokens": 5}),
    ):
        assert fleet.post(path, body).status_code == 200, path
        streamed = fleet.post(path, {**body, "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream"), path
        assert '"error":{' not in streamed.text, path
    assert fleet.post("/chatglm", {"prompt": "你好"}).json()["status"] == 200


def test_a_drained_server_loses_nothing(fleet: Fleet) -> None:
    assert set(drain_one(fleet)) == {"whole"}


def test_a_killed_server_costs_the_answers_that_it_wrote(fleet: Fleet) -> None:
    before, after = kill_one(fleet)
    assert set(before) == set(after) == {"whole"}
