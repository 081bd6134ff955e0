"""Names that are paths: of models, tasks, responses and files, in requests, on the command line and in tables."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from glmserve.bootstrap.model_source import UnknownModelError, find_source
from glmserve.config.values import Quant
from tests.hostile.conftest import Target

_UP = ("../secret", "../secret.toml", "..%2fsecret", "....//secret", "/etc/passwd", "file:///etc/passwd", "reading\x00",
       "C:\\secret", "\\\\host\\share", "reading/../../secret", "~/secret", "${HOME}", "%00", "http://127.0.0.1:1/x",
       "|id", "$(id)", "x" * 5000)  # fmt: skip


def _paths_to(target: Target) -> tuple[str, ...]:
    return (*_UP, str(target.secret), str(target.secret.with_suffix("")))


def _tells_nothing(target: Target, reply: httpx.Response) -> None:
    assert reply.status_code in (400, 404), reply.text[:300]
    assert "the secret" not in reply.text
    assert str(target.secret.parent) not in reply.text.replace(str(target.secret), "").replace(
        str(target.secret.with_suffix("")), ""
    )
    assert "root:" not in reply.text
    assert len(reply.content) < 1500


def test_a_model_is_one_of_the_served_names_and_never_a_file(target: Target) -> None:
    """Ollama fetched and opened what a request named as its model (CVE-2026-7020, ollama#16236)."""
    for name in _paths_to(target):
        for model in (name, f"chat:{name}"):
            asked = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            for path in ("/v1/chat/completions", "/v1/messages"):
                _tells_nothing(target, target.http.post(path, json=asked))
            _tells_nothing(target, target.http.post("/v1/completions", json={"model": model, "prompt": "x"}))
            _tells_nothing(target, target.http.post("/v1/responses", json={"model": model, "input": "x"}))
            _tells_nothing(target, target.http.post("/v1/embeddings", json={"model": model, "input": "x"}))


def test_a_stored_prompt_is_one_of_the_folder_and_never_a_path(target: Target) -> None:
    for name in _paths_to(target):
        body = {"prompt": {"id": name, "variables": {"text": "x"}}}
        _tells_nothing(target, target.http.post("/v1/responses", json=body))


def test_a_response_is_one_that_is_stored(target: Target) -> None:
    for name in _paths_to(target):
        _tells_nothing(target, target.http.post("/v1/responses", json={"input": "x", "previous_response_id": name}))


@pytest.mark.parametrize(
    "path",
    ["/page/../../../../etc/passwd", "/page/x/..%2f..%2f..%2fetc/passwd", "/page/x//etc/passwd", "/v1/models/../../x",
     "/v1/models/%2e%2e%2fsecret", "/v1/responses/..%2fsecret", "/static/../server/app.py", "/.env", "/%00"],
)  # fmt: skip
def test_an_address_is_never_a_file(target: Target, path: str) -> None:
    """llama-server served what its routes did not mean to (its static files, local media paths)."""
    request = target.http.build_request("GET", target.http.base_url.copy_with(raw_path=path.encode()))
    _tells_nothing(target, target.http.send(request))


@pytest.mark.parametrize("name", ["../x", "../../etc/passwd", "a/../../b", "*", "?", "[a]", "**/x", "..", ".", "x\ny"])
def test_a_model_of_the_cache_is_never_outside_it(tmp_path: Path, name: str) -> None:
    """`--model NAME` looks a name up in the cache folder; only a path that is typed as one is opened."""
    cache = tmp_path / "a" / "b" / "cache"
    cache.mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.q4_k_m.gguf").write_bytes(b"GGUF")
    (cache / "known.q4_k_m.gguf").write_bytes(b"GGUF")
    if Path(name).exists():
        pytest.skip("a path that there is")
    with pytest.raises(UnknownModelError):
        find_source(name, Quant.AUTO, cache)


@pytest.mark.parametrize("name", ["../../etc", "http://127.0.0.1:1/a"])
def test_pull_takes_the_name_of_a_repository_and_nothing_else(tmp_path: Path, name: str) -> None:
    """Ollama pulled from any registry that a name pointed to (ollama#16236)."""
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"}
    command = [str(Path(sys.executable).with_name("glmserve")), "pull", "--cache-dir", str(tmp_path / "c"), "--", name]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "passwd" in path.name]
