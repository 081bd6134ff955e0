"""Steps on servers: saved states, an engine that is killed, and streams against llama-server and llama-bench."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from bench.gpu.plan import Row
from bench.gpu.setup import Bench, gpu_memory
from bench.served import engine_of, running
from glmserve.cli.bench.client import BenchClient
from glmserve.cli.bench.command import BenchReport, measure, run_fast
from glmserve.cli.bench.workloads import WORKLOADS, Client, Size, Workload

_PATIENCE = 60.0
_CELLS = 32768
_STREAMS = (1, 8, 64)
_TOKENS = 64
_LINES = "".join(f"第{number}号单子：去{number * 7 % 100}号楼买{number * 13 % 50}本书。\n" for number in range(40))


def states(bench: Bench) -> Iterator[Row]:
    """Pin a prompt, save a conversation, kill the server, and check the caches of the next one."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        pinned = folder / "pinned.txt"
        pinned.write_text("请按例子回答：\n" + _LINES, encoding="utf-8")
        arguments = [*_model(bench), "--context", "4096", "--pin", str(pinned)]
        ask = [{"role": "user", "content": pinned.read_text("utf-8") + "第一句"}]
        chat = [{"role": "user", "content": "请记住：" + _LINES}]
        with running(arguments, folder) as (url, pid):
            _wait(lambda: list((folder / "prefixes").glob("*.state")))
            before = [_ask(url, messages) for messages in (ask, chat)]
            answered = time.time()
            _wait(lambda: _saved(folder / "prompts", answered))
            os.kill(pid, signal.SIGKILL)
        with running(arguments, folder) as (url, _):
            after = [_ask(url, messages) for messages in (ask, chat)]
        for title, (text, first, cached, prompt), (again, later, kept, _) in zip(
            ("pinned prompt", "conversation"), before, after, strict=True
        ):
            same = "the same answer" if text == again else "ANOTHER ANSWER"
            yield Row(
                f"{title}, {prompt} tokens",
                f"{cached} cached in {first:.3f} s; after kill -9 and a start {kept} in {later:.3f} s, {same}",
            )


def death(bench: Bench) -> Iterator[Row]:
    """Kill the engine in the middle of an answer, which the next process has to end."""
    with TemporaryDirectory() as folder, running([*_model(bench), "--context", "4096"], Path(folder)) as (url, pid):
        before = gpu_memory()
        body = _body([{"role": "user", "content": "写一个很长的故事"}], 400) | {"ignore_eos": True, "stream": True}
        body["stream_options"] = {"include_usage": True}
        pieces: list[float] = []
        tokens = 0
        killed = 0.0
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE) as reply:
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise RuntimeError(str(event["error"]))
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                pieces.append(time.monotonic())
                if len(pieces) == 20:
                    killed = time.monotonic()
                    os.kill(engine_of(pid), signal.SIGKILL)
        pause = max(b - a for a, b in pairwise(pieces) if b > killed)
        yield Row("answer across the death", f"{tokens} of 400 tokens, longest pause {pause:.2f} s")
        if before:
            yield Row("memory in use before and after", f"{before}; {gpu_memory()}")


def floor(bench: Bench) -> Iterator[Row]:
    """Run llama-bench, with all and with half of the layers on the device."""
    program = _program(bench, "llama-bench")
    for offloaded in ("99", "14") if bench.on_gpu else ("0",):
        command = [program, "-m", bench.model, "-p", "512", "-n", "64", "-r", "3", "-ngl", offloaded, "-o", "json"]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True)
        rates = {("answer" if test["n_gen"] else "prompt"): test["avg_ts"] for test in json.loads(done.stdout)}
        yield Row(f"-ngl {offloaded}", f"prompt {rates['prompt']:.0f} tokens/s, answer {rates['answer']:.1f} tokens/s")


def streams(bench: Bench) -> Iterator[Row]:
    """Time 1, 8 and 64 clients with this server, then with llama-server, both with one cache of the same size."""
    yield Row("llama-server", "measured in turn" if bench.programs else "not given (--programs)")
    ours = [*_model(bench), "--parallel", "64", "--context", "4096", "--cache-tokens", str(_CELLS)]
    with TemporaryDirectory() as folder, running(ours, Path(folder)) as (url, _):
        yield from _timed("glmserve", url)
    if bench.programs:
        with _llama_server(bench) as url:
            yield from _timed("llama-server", url)


def sampling(bench: Bench) -> Iterator[Row]:
    """Time 64 clients of llama-server with and without sampling on the device, which this server does not use."""
    for flags in ((), ("--backend-sampling",)):
        with _llama_server(bench, *flags) as url:
            yield Row(f"llama-server {' '.join(flags)}", _figures(_run(url, 64)))


def _timed(name: str, url: str) -> Iterator[Row]:
    for clients in _STREAMS:
        yield Row(f"{clients} streams, {name}", _figures(_run(url, clients)))
    (shared,) = _reports(url, WORKLOADS["shared"](random.Random(1), Size(clients=8, stretch=0.73))[:1])
    yield Row(f"8 clients with one new prompt, {name}", f"{shared.wall:.2f} s for {shared.prompt_tokens} prompt tokens")


def _run(url: str, clients: int) -> BenchReport:
    (own,) = WORKLOADS["own"](random.Random(clients), Size(clients=clients, stretch=0.73))
    asking = tuple(Client(client.questions, _TOKENS) for client in own.clients)
    return _reports(url, (Workload(own.name, asking),))[0]


def _reports(url: str, workloads: Sequence[Workload]) -> list[BenchReport]:
    name = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    client = BenchClient(url, name)
    run_fast(measure(client, [Workload("warming up", (Client(("你好",), 4),))]))
    return run_fast(measure(client, workloads))


def _figures(report: BenchReport) -> str:
    return (
        f"{report.throughput:.0f} tokens/s, first token {report.ttft_median:.3f} s, "
        f"each further one {1000 * report.tpot_median:.2f} ms"
    )


def _model(bench: Bench) -> list[str]:
    return [str(bench.model), "--device", bench.device]


def _program(bench: Bench, name: str) -> Path:
    if bench.programs is None:
        raise RuntimeError(f"{name} was not given (--programs)")
    return bench.programs / name


@contextmanager
def _llama_server(bench: Bench, *flags: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [_program(bench, "llama-server"), "-m", bench.model, "--port", port, "-np", 64, "-c", _CELLS]
    command += ["--kv-unified", "--no-ui", "-ngl", 99 if bench.on_gpu else 0, *flags]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(lambda: process.poll() is not None or _is_healthy(url))
            yield url
        finally:
            process.terminate()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.HTTPError:
        return False


def _wait(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("what was waited for did not come")
        time.sleep(0.02)


def _saved(folder: Path, since: float) -> bool:
    """Return whether a prompt was saved since then: an idle engine saves the last one."""
    return any(file.stat().st_mtime >= since for file in folder.glob("*.prompt"))


def _body(messages: Sequence[dict[str, str]], tokens: int) -> dict[str, object]:
    return {"messages": messages, "max_tokens": tokens, "temperature": 0}


def _ask(url: str, messages: Sequence[dict[str, str]]) -> tuple[str, float, int, int]:
    """Return the answer, its seconds, and the cached and all tokens of the prompt."""
    began = time.monotonic()
    reply = httpx.post(f"{url}/v1/chat/completions", json=_body(messages, 16), timeout=_PATIENCE).raise_for_status()
    usage = reply.json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    text = reply.json()["choices"][0]["message"]["content"]
    return text, time.monotonic() - began, cached, usage["prompt_tokens"]
