"""The engine process dies: the server lives, the next request is answered, and without ``resume`` streams end.

With it they go on: see ``test_resume``.
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import gguf
import httpx
import numpy as np
import pytest
from typing_extensions import Unpack

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import EngineDied, EngineUnavailable, ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.params import SamplingParams
from tests.conftest import running_server
from tests.support.changes import EngineChanges
from tests.support.processes import engine_pid
from tests.support.slow_callers import wait_until

PROMPT = (5, 6, 7, 8)
ENDLESS = SamplingParams(max_tokens=1900, ignore_eos=True)


def _config(path: Path, **changes: Unpack[EngineChanges]) -> EngineConfig:
    return replace(EngineConfig(path, context_length=2048, device=Device.CPU, max_restarts=2), **changes)


def _kill(engine: EngineClient) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)


@pytest.fixture
async def engine(tiny_gguf: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(_config(tiny_gguf, resume=False))
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def test_each_stream_ends_with_one_error_and_the_next_request_is_answered(engine: EngineClient) -> None:
    streams = [await engine.submit(PROMPT, ENDLESS) for _ in range(8)]
    for stream in streams:
        await anext(stream)  # one that has said nothing yet would be asked anew
    _kill(engine)
    for stream in streams:
        with pytest.raises(EngineDied, match="SIGKILL"):
            async for _ in stream:
                pass
        assert [output async for output in stream] == []
    assert engine.status.state is EngineState.RESTARTING
    answer = [output async for output in await engine.submit(PROMPT, SamplingParams(max_tokens=3, ignore_eos=True))]
    assert sum(len(output.token_ids) for output in answer) == 3
    assert engine.restarts_total == 1


async def test_an_engine_that_dies_without_ever_answering_is_given_up_after_a_bounded_number_of_restarts(
    engine: EngineClient,
) -> None:
    for _ in range(3):
        await engine.wait_ready(60)
        _kill(engine)
        while engine.status.state is EngineState.READY:
            await asyncio.sleep(0.01)
    assert engine.status.state is EngineState.FAILED
    with pytest.raises(EngineUnavailable, match="3 times in a row"):
        await engine.submit(PROMPT, ENDLESS)


async def test_a_stopped_engine_ends_its_streams_and_takes_no_more(engine: EngineClient) -> None:
    stream = await engine.submit(PROMPT, ENDLESS)
    await anext(stream)
    await engine.stop()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        async for _ in stream:
            pass
    with pytest.raises(EngineUnavailable):
        await engine.submit(PROMPT, ENDLESS)


async def test_loading_that_takes_too_long_is_ended(tiny_gguf: Path) -> None:
    engine = EngineClient(_config(tiny_gguf, load_timeout=1.0), load=_never_loads)
    await engine.start()
    with pytest.raises(ModelLoadError, match="more than 1 s"):
        await engine.wait_ready(30)


def _never_loads(config: EngineConfig) -> ModelRunner:
    time.sleep(3600)
    raise AssertionError


def _loads_unchecked(config: EngineConfig) -> ModelRunner:
    """As the worker does, but without the check that comes before llama.cpp."""
    import llama_cpp

    params = llama_cpp.llama_model_default_params()
    llama_cpp.llama_model_load_from_file(str(config.model_path).encode(), params)
    raise AssertionError("llama.cpp was expected to end this process")


def _gguf_with_two_equal_tokens(folder: Path) -> Path:
    path = folder / "twins.gguf"
    writer = gguf.GGUFWriter(path, "chatglm")
    for key, value in {"block_count": 1, "attention.head_count": 1, "attention.head_count_kv": 1}.items():
        writer.add_uint32(f"chatglm.{key}", value)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "twin", "twin"])
    writer.add_token_scores([0.0, 0.0, 0.0, -1.0, -2.0])
    writer.add_token_types([2, 3, 3, 1, 1])
    writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def test_a_file_that_makes_llama_cpp_abort_is_refused_before_it_sees_it(tmp_path: Path) -> None:
    engine = EngineClient(_config(_gguf_with_two_equal_tokens(tmp_path)))
    await engine.start()
    with pytest.raises(ModelLoadError, match="'twin' stands twice"):
        await engine.wait_ready(60)


async def test_an_abort_inside_llama_cpp_ends_the_child_and_not_the_server(tmp_path: Path) -> None:
    """Even where the check would miss something: the unchecked load of the same file is a SIGABRT."""
    engine = EngineClient(_config(_gguf_with_two_equal_tokens(tmp_path)), load=_loads_unchecked)
    await engine.start()
    with pytest.raises(ModelLoadError, match="SIGABRT"):
        await engine.wait_ready(60)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a readable GGUF"),
        (b"GGUF" + bytes(60), "not a readable GGUF"),
        (b"PK\x03\x04 something else entirely", "not a readable GGUF"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "not a readable GGUF"),
    ],
)
async def test_what_is_no_gguf_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    engine = EngineClient(_config(path))
    await engine.start()
    with pytest.raises(ModelLoadError, match=says):
        await engine.wait_ready(60)


async def test_a_truncated_file_is_refused_in_one_line(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:-100_000])
    engine = EngineClient(_config(path))
    await engine.start()
    with pytest.raises(ModelLoadError, match=r"short\.gguf"):
        await engine.wait_ready(60)


_ASK = {"messages": [{"role": "user", "content": "你好"}]}
_ENDLESS = {"stream": True, "ignore_eos": True}
_LONG = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}, "minItems": 500}}}
_LONG_FORM = {"format": {"type": "json_schema", "schema": {**_LONG, "required": ["a"]}}}
_STREAMS = {
    "/v1/chat/completions": {**_ASK, **_ENDLESS, "max_tokens": 1900},
    "/v1/completions": {"prompt": "你好", **_ENDLESS, "max_tokens": 1900},
    "/v1/responses": {"input": "你好", **_ENDLESS, "max_output_tokens": 1900},
    "/v1/messages": {**_ASK, "model": "chatglm2-tiny", "stream": True, "max_tokens": 1900, "output_config": _LONG_FORM},
}


def _stream_until_it_ends(url: str, path: str, lines: list[str]) -> None:
    with httpx.stream("POST", url + path, json=_STREAMS[path], timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: "):
                lines.append(line.removeprefix("data: "))


def test_over_http_each_open_stream_ends_as_its_dialect_tells_of_errors_and_the_server_answers_again(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with running_server(str(tiny_gguf), "--no-resume", log=tmp_path / "log") as (url, server):
        streams: dict[str, list[str]] = {path: [] for path in _STREAMS}
        threads = [threading.Thread(target=_stream_until_it_ends, args=(url, *stream)) for stream in streams.items()]
        for thread in threads:
            thread.start()
        # One of which nothing was answered yet would be asked anew.
        wait_until(lambda: min(map(len, streams.values())) > 10, "not all streams have begun")
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        for thread in threads:
            thread.join(30)
        for path in ("/v1/chat/completions", "/v1/completions"):
            assert streams[path][-1] == "[DONE]"
            assert "SIGKILL" in json.loads(streams[path][-2])["error"]["message"]
        failed = json.loads(streams["/v1/responses"][-1])
        assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "server_error")
        error = json.loads(streams["/v1/messages"][-1])
        assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")
        answer = httpx.post(f"{url}/chatglm", json={"prompt": "你好", "max_length": 64}, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, 200)
        assert server.poll() is None


def test_a_server_with_nothing_left_to_serve_says_so_and_exits_for_a_supervisor_to_see(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with running_server(str(tiny_gguf), "--max-restarts", "1", log=tmp_path / "log") as (url, server):
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        states = _states_until_ok(url)
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        assert server.wait(20) == 1
    assert states[-1] == 200
    assert 503 in states
    assert "all engines failed" in (tmp_path / "log").read_text("utf-8")


def test_a_server_with_another_model_stays_as_long_as_there_is_one(tiny_gguf: Path, tmp_path: Path) -> None:
    config = tmp_path / "glmserve.toml"
    names = ("a", "b")
    config.write_text("".join(f'[[models]]\nmodel = "{tiny_gguf}"\nname = "{name}"\n' for name in names))
    flags = ("--config", str(config), "--max-restarts", "0", "--context", "1024")
    with running_server(*flags, log=tmp_path / "log") as (url, server):
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        wait_until(lambda: httpx.get(f"{url}/health").json()["status"] == "failed", "it is not given up")
        assert httpx.get(f"{url}/health").status_code == 503
        ask = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 5}
        answers = [httpx.post(f"{url}/v1/chat/completions", json={**ask, "model": name}).status_code for name in names]
        assert sorted(answers) == [200, 503]
        assert server.poll() is None
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        assert server.wait(20) == 1


def _states_until_ok(url: str) -> list[int]:
    """Return the statuses of /health, from one that is not 200 to one that is."""
    states = [200]
    while states[-1] != 200 or len(set(states)) == 1:
        states.append(httpx.get(f"{url}/health").status_code)
        time.sleep(0.01)
        assert len(states) < 3000
    return states
