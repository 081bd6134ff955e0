"""What meets a new user who does something slightly wrong, or waits: each gets an answer that says what to do."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import IO

import httpx
import pytest
from click.testing import CliRunner

from glmserve.bootstrap.model_source import make_folder
from glmserve.cli.conversion import Progress, waiting_room
from glmserve.cli.main import main
from glmserve.convert.errors import OutputError
from glmserve.convert.type_names import usual_name
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint

GLMSERVE = str(Path(sys.executable).with_name("glmserve"))


@pytest.fixture
def listener() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_callers_are_told_how_far_a_conversion_is_and_then_get_the_server(listener: socket.socket) -> None:
    progress = Progress(tell=True)
    with closing(listener), httpx.Client(base_url=address(listener), trust_env=False) as client:
        with waiting_room(listener, progress):
            progress.text = "our-glm is being converted: 45% of 4.10 GB"
            health = client.get("/health")
            assert (health.status_code, health.json()) == (503, {"status": "converting", "reason": progress.text})
            assert health.headers["retry-after"] == "30"
            answer = client.post("/v1/chat/completions", json={"messages": []})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
            assert "45% of 4.10 GB; try again later" in answer.json()["error"]["message"]
            assert client.head("/health").status_code == 503
            # Somebody who says nothing does not keep the others from an answer, nor the server from starting.
            silent = socket.create_connection(listener.getsockname())
        waiting = socket.create_connection(listener.getsockname())
        listener.settimeout(5)
        accepted = {listener.accept()[1] for _ in range(1)}
        assert waiting.getsockname() in accepted or silent.getsockname() in accepted
        silent.close()
        waiting.close()


def test_callers_without_a_key_are_told_no_more_than_that(listener: socket.socket) -> None:
    progress = Progress(tell=False)
    progress.text = "secret-name is being converted"
    with closing(listener), waiting_room(listener, progress), httpx.Client(trust_env=False) as client:
        assert client.get(f"{address(listener)}/health").json() == {"status": "converting"}
        assert "secret" not in client.get(f"{address(listener)}/v1/models").text


def _read_to_end(log: IO[str], ended: threading.Event) -> None:
    log.read()
    ended.set()


def test_a_server_that_converts_answers_meanwhile(tmp_path: Path) -> None:
    shape = Shape(layers=4, ffn=448, vocab=8192)
    write_checkpoint(tmp_path / "glm", shape, make_weights(shape, 1))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [GLMSERVE, "serve", str(tmp_path / "glm"), "--port", str(port), "--cache-dir", str(tmp_path / "cache")]
    with subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "converting" in line:
                break
        told: set[str] = set()
        ended = threading.Event()
        threading.Thread(target=_read_to_end, args=(server.stderr, ended), daemon=True).start()
        try:
            while not told & {"ok", "failed"} and not ended.is_set():
                try:
                    told.add(httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=60).json()["status"])
                except httpx.TransportError:
                    continue
        finally:
            server.terminate()
    assert "converting" in told
    assert "ok" in told


def test_a_single_model_that_can_never_be_loaded_ends_the_server_with_status_2(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    assert data.count(b"output_norm.weight") == 1
    (tmp_path / "never.gguf").write_bytes(data.replace(b"output_norm.weight", b"xutput_norm.weight"))
    command = [GLMSERVE, "serve", str(tmp_path / "never.gguf"), "--port", "0", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: never.gguf: llama.cpp could not load it")
    assert "stays up" not in done.stderr


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("pull", "chatglm2-6b"), ("chat", "chatglm2-tiny")])
def test_a_home_that_cannot_be_written_names_the_flag(command: tuple[str, ...]) -> None:
    environ = {"HOME": "/proc/nohome", "XDG_CACHE_HOME": "", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = CliRunner().invoke(main, command, env=environ, input="")
    assert done.exit_code == 1, done.output
    assert done.output.splitlines()[-1].startswith("Error: /proc/nohome/.cache/glmserve")
    assert done.output.strip().endswith("name a folder for converted models with --cache-dir")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--cache-dir"):
        make_folder(tmp_path / "file" / "inner")
    make_folder(tmp_path / "new" / "inner")
    assert (tmp_path / "new" / "inner").is_dir()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Q4_K_M", "q4_k_m"), ("q4-k-m", "q4_k_m"), ("int4", "q4_k_m"), ("INT8", "q8_0"), ("FP16", "f16"), ("x", "x")],
)
def test_types_of_weights_are_understood_as_people_write_them(written: str, meant: str, tmp_path: Path) -> None:
    assert usual_name(written) == meant
    if meant == "x":
        return
    for flags, environ in ((("--quant", written), {}), ((), {"GLMSERVE_QUANT": written})):
        done = CliRunner().invoke(main, ["inspect", "--help", *flags][:2], env=environ)
        assert done.exit_code == 0
    convert = CliRunner().invoke(main, ["convert", "-q", written, str(tmp_path)])
    assert "Invalid value" not in convert.output


def test_doctor_finds_in_a_folder_what_serve_would(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "glm", Shape(), make_weights(Shape(), 1))

    def state() -> tuple[int, str]:
        done = CliRunner().invoke(main, ["doctor", str(tmp_path / "glm"), "--json", "--cache-dir", str(tmp_path / "c")])
        return done.exit_code, str(json.loads(done.output)["models"][0]["state"])

    assert state()[0] == 0
    weights = next((tmp_path / "glm").glob("*.safetensors"))
    whole = weights.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    weights.write_bytes(pointer)
    assert state() == (1, state()[1])
    assert "git lfs" in state()[1].lower()
    weights.write_bytes(whole)
    (tmp_path / "glm" / "tokenizer.model").write_bytes(pointer)
    assert "git lfs" in state()[1].lower()
    (tmp_path / "glm" / "tokenizer.model").unlink()
    code, said = state()
    assert (code, "tokenizer.model is missing" in said) == (1, True), said


def test_doctor_runs_the_self_test_of_the_engine(tiny_gguf: Path, tmp_path: Path) -> None:
    flags = (str(tiny_gguf), "--json", "--cache-dir", str(tmp_path))
    done = CliRunner().invoke(main, ["doctor", *flags])
    assert (done.exit_code, json.loads(done.output)["models"][0]["self_test"]) == (0, "passed")
    data = tiny_gguf.read_bytes().replace(b"output_norm.weight", b"xutput_norm.weight")
    (tmp_path / "never.gguf").write_bytes(data)
    done = CliRunner().invoke(main, ["doctor", str(tmp_path / "never.gguf"), *flags[1:]])
    report = json.loads(done.output)
    assert (done.exit_code, report["healthy"]) == (1, False)
    assert "llama.cpp could not load it" in report["models"][0]["self_test"]
