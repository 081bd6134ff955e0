"""The commands as a user runs them: processes, exit statuses, signals, and what is printed."""

import fcntl
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server

GLMSERVE = str(Path(sys.executable).with_name("glmserve"))


def call(*args: str, text: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GLMSERVE, *args], input=text, capture_output=True, text=True, timeout=100, check=False, env=env
    )


def is_running(pid: str) -> bool:
    """Whether the process is there and no zombie, which some containers' first process never reaps."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_the_embedded_model_is_converted_once_and_served(tmp_path: Path) -> None:
    flags = ("--cache-dir", str(tmp_path / "cache"), "--threads", "1")
    with running_server(*flags, log=tmp_path / "first") as (url, _):
        assert httpx.get(f"{url}/health").json()["models"][0]["name"] == "chatglm2-tiny"
    (converted,) = (tmp_path / "cache" / "converted").iterdir()
    before = converted.stat()
    with running_server(*flags, log=tmp_path / "second"):
        assert converted.stat().st_mtime_ns == before.st_mtime_ns
    assert "converting" in (tmp_path / "first").read_text("utf-8")
    assert "converting" not in (tmp_path / "second").read_text("utf-8")


def test_the_printed_lines_work_when_pasted(tiny_gguf: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    with running_server(str(tiny_gguf), log=tmp_path / "log"):
        lines = re.findall(r"^  (curl .*)$", (tmp_path / "log").read_text("utf-8"), re.MULTILINE)
        answers = [subprocess.run(["bash", "-c", f"{line} -sS"], capture_output=True, text=True, check=True).stdout
                   for line in lines]  # fmt: skip
    assert len(answers) == 3
    assert json.loads(answers[0])["choices"][0]["message"]["content"]
    assert answers[1].rstrip().endswith("data: [DONE]")
    assert json.loads(answers[2])["status"] == 200
    assert all("-d" in shlex.split(line) for line in lines)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_its_engine(stop: signal.Signals, tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), log=tmp_path / "log") as (_, process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(stop)
        status = process.wait(20)
    assert status == 0
    assert children
    wait_until(lambda: not any(map(is_running, children)))
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def test_chat_answers_from_a_pipe(server_url: str) -> None:
    done = call("chat", "--url", server_url, text="你好\n/clear\nhello\n/exit\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2


def test_chat_starts_a_model_for_itself_and_leaves_the_batches_of_servers_alone(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    """It took them up: each of their lines that named another model failed."""
    done = call("chat", str(tiny_gguf), "--default-max-tokens", "5", "--cache-dir", str(tmp_path), text="你好\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "batches").exists()


def test_a_task_runs_lines_on_a_model_of_its_own_beside_a_server(tiny_gguf: Path, tmp_path: Path) -> None:
    kept = tmp_path / "batches"
    kept.mkdir()
    command = ("task", "review", "--lines", "--model", str(tiny_gguf), "--cache-dir", str(tmp_path))
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call(*command, text='"好看"\n')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"]


def test_doctor_says_what_a_model_would_get(tiny_gguf: Path) -> None:
    done = call("doctor", str(tiny_gguf), "--json", "--device", "cpu", "--context", "1024", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    placement = json.loads(done.stdout)["models"][0]["placed"]["placement"]
    assert (placement["context_length"], placement["cache_cells"], placement["gpu_layers"]) == (1024, 2048, 0)


def test_doctor_looks_at_each_model_of_the_file(tiny_gguf: Path, tmp_path: Path) -> None:
    config = tmp_path / "glmserve.toml"
    tables = "".join(f'[[models]]\nmodel = "{tiny_gguf}"\ncontext = 1024\nparallel = {n}\n' for n in (2, 3))
    config.write_text(f'{tables}[[models]]\nmodel = "missing.gguf"\n')
    done = call("doctor", "--config", str(config), "--json", "--device", "cpu")
    assert done.returncode == 1
    first, second, missing = json.loads(done.stdout)["models"]
    assert [model["placed"]["placement"]["cache_cells"] for model in (first, second)] == [2048, 3072]
    assert (missing["usable"], missing["placed"]["placement"]) == (False, None)


def test_list_shows_the_files_of_served_folders_by_their_names(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with running_server("--cache-dir", str(cache), "--threads", "1", log=tmp_path / "log"):
        pass
    (row,) = [row for row in json.loads(call("list", "--json", "--cache-dir", str(cache)).stdout)
              if row["type"] != "checkpoint"]  # fmt: skip
    assert (row["name"], row["type"], row["family"]) == ("chatglm2-tiny", "q8_0", "chatglm2")


def test_doctor_refuses_a_device_that_is_not_there(tiny_gguf: Path) -> None:
    if json.loads(call("doctor", "--json").stdout)["build"]["gpu_offload"]:
        pytest.skip("this machine has a GPU")
    done = call("doctor", str(tiny_gguf), "--device", "cuda")
    assert done.returncode == 1
    assert "Problem: --device cuda was asked for" in " ".join(done.stdout.split())


def test_an_error_ends_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = call("serve", str(tmp_path / "missing.gguf"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("command", [("--help",), ("--version",), ("convert", "--help"), ("list", "--json")])
def test_a_full_disk_under_the_output_is_told_in_one_line(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [GLMSERVE, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (1, "Error: the output: No space left on device\n")


def test_bench_measures_a_running_server_and_finds_the_shared_prompt_cached(server_url: str) -> None:
    done = call("bench", "--url", server_url, "--clients", "4", "--max-tokens", "4", "--workload", "shared", "--json")
    new, known = json.loads(done.stdout)
    assert (new["requests"], known["requests"]) == (4, 4)
    assert new["cached_share"] > 0.6
    assert known["cached_share"] > 0.9
    assert new["throughput"] > 0


def test_bench_lets_long_prompts_arrive_while_others_read(server_url: str) -> None:
    done = call(
        "bench", "--url", server_url, "--clients", "2", "--max-tokens", "24", "--workload", "arriving", "--json"
    )
    (report,) = json.loads(done.stdout)
    assert report["requests"] == 5
    assert 0 < report["longest_pause"] < report["wall"]
