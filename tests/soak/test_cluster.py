"""The application on Ray, from PyPI: cached share, dead replicas and nodes, scaling, an update."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.fleet import CONVERSATIONS, free_port, talk
from tests.support.slow_callers import wait_until

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = re.search(r"^ray==([\d.]+)", (ROOT / "requirements" / "ray.txt").read_text("utf-8"), re.MULTILINE)
STREAMS = 16
MODEL = "chatglm2-tiny"
wait = partial(wait_until, seconds=600)


@pytest.fixture(scope="session")
def ray_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with Ray beside the packages of this one; ``SOAK_RAY_PYTHON`` names one that is there already."""
    if given := os.environ.get("SOAK_RAY_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("ray")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    interpreter = folder / "bin" / "python"
    shown = [str(interpreter), "-c", "import site; print(site.getsitepackages()[0])"]
    packages = Path(subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip())
    (packages / "beside.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (packages / "a_glmserve.pth").write_text(str(ROOT / "src"))
    assert PACKAGE is not None
    subprocess.run([interpreter, "-m", "pip", "install", "-q", f"ray[serve]=={PACKAGE[1]}"], check=True, timeout=3000)
    return interpreter


@dataclass
class Deployed:
    """The application, and the process that has its cluster."""

    url: str
    cluster: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        return httpx.post(self.url + path, json={"model": MODEL, **body}, timeout=300)

    @property
    def replicas(self) -> list[int]:
        """The processes of the engine replicas."""
        return [
            pid
            for pid in descendants(self.cluster.pid)
            if command(pid).startswith(f"ray::ServeReplica:glmserve:{MODEL}")
        ]

    def engine(self, replica: int) -> int:
        """The engine process of a replica."""
        return next(pid for pid in descendants(replica) if "spawn_main" in command(pid))

    @property
    def places(self) -> int:
        return int(httpx.get(f"{self.url}/v1/loads", timeout=60).json()["loads"][0]["max_running_requests"])

    def tell(self, line: str) -> None:
        assert self.cluster.stdin is not None
        self.cluster.stdin.write(line + "\n")
        self.cluster.stdin.flush()


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(
                int(status.parent.name)
            )
    found, more = [], [pid]
    while more:
        more += (below := children.get(more.pop(), []))
        found += below
    return found


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


Deploy = Callable[..., contextlib.AbstractContextManager[Deployed]]


@pytest.fixture(scope="module")
def deploy(ray_python: Path, exact_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Start a cluster whose nodes have so many cores, and deploy with these settings."""
    folder = tmp_path_factory.mktemp("cluster")
    model = folder / "model.gguf"
    os.link(exact_gguf, model)

    @contextlib.contextmanager
    def start(cores: str, **settings: object) -> Iterator[Deployed]:
        port = free_port()
        values = {"model": model, "model_name": MODEL, "port": port, "cache_dir": folder, "threads": 1, **settings}
        pairs = [f"{name}={value}" for name, value in values.items()]
        log = (folder / "log").open("a")
        process = subprocess.Popen(
            [ray_python, ROOT / "tests" / "soak" / "ray_cluster.py", cores, *pairs],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
        )  # fmt: skip
        deployed = Deployed(f"http://127.0.0.1:{port}", process)
        assert process.stdout is not None
        reading = threading.Thread(target=deployed.lines.extend, args=(process.stdout,))
        reading.start()
        try:
            wait(lambda: "ready\n" in deployed.lines or process.poll() is not None, "it is not deployed")
            assert process.poll() is None, (folder / "log").read_text()
            yield deployed
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(300)
            finally:
                for pid in (*descendants(process.pid), process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                reading.join()
                log.close()

    return start


@dataclass
class Stream:
    """A streamed answer, and how it ended."""

    text: str = ""
    pieces: int = 0
    end: str = ""


def stream(deployed: Deployed, number: int, told: Stream, tokens: int = 150) -> None:
    """Ask for an answer and note what comes of it."""
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": f"{number}：你好"}], "max_tokens": tokens,
        "temperature": 0, "ignore_eos": True, "stream": True,
    }  # fmt: skip
    with httpx.stream("POST", f"{deployed.url}/v1/chat/completions", json=body, timeout=600) as reply:
        told.end = "cut off"
        if reply.status_code != 200:
            told.end = f"status {reply.status_code}: {reply.read().decode()}"
        for line in reply.iter_lines():
            if line == "data: [DONE]":
                told.end = "done"
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    told.end = str(event)
                    return
                told.text += event["choices"][0]["delta"].get("content") or ""
                told.pieces += 1


def streams(deployed: Deployed, then: Callable[[], object] = lambda: None, tokens: int = 150) -> list[Stream]:
    """Return 16 answers at once; ``then`` is called in their middle."""
    each = [Stream() for _ in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        asked = [pool.submit(stream, deployed, number, told, tokens) for number, told in enumerate(each)]
        wait(lambda: sum(told.pieces > 10 for told in each) >= STREAMS * 3 // 4, "the answers do not begin")
        then()
        for one in asked:
            one.result()
    return each


def test_two_replicas(deploy: Deploy) -> None:
    with deploy("4", replicas=2, speculation=False) as deployed:
        assert len(deployed.replicas) == 2
        every_dialect_answers(deployed)
        the_share_of_cached_tokens(deployed)
        a_killed_process_is_a_pause(deployed)


def every_dialect_answers(deployed: Deployed) -> None:
    messages = [{"role": "user", "content": "你好"}]
    bodies: dict[str, dict[str, object]] = {
        "/v1/chat/completions": {"messages": messages, "max_tokens": 5},
        "/v1/completions": {"prompt": "你好", "max_tokens": 5},
        "/v1/messages": {"messages": messages, "max_tokens": 5},
        "/v1/responses": {"input": "你好", "max_output_tokens": 16},
        "/tokenize": {"prompt": "你好"},
    }
    for path, body in bodies.items():
        assert deployed.post(path, body).status_code == 200, path
    legacy = httpx.post(f"{deployed.url}/chatglm", json={"prompt": "你好", "history": []}, timeout=300).json()
    assert legacy["status"] == 200
    for regex, status in (("(", 400), ("[ab]{4}", 200)):
        body = {"messages": messages, "structured_outputs": {"regex": regex}}
        reply = deployed.post("/v1/chat/completions", body)
        assert reply.status_code == status, reply.text
    assert re.fullmatch("[ab]{4}", reply.json()["choices"][0]["message"]["content"])


def the_share_of_cached_tokens(deployed: Deployed) -> None:
    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        turns = pool.map(lambda number: talk(deployed.post, number), range(CONVERSATIONS))
        counts = [count for conversation in turns for count in conversation]
    share = sum(cached for _, cached in counts) / sum(prompt for prompt, _ in counts)
    print(f"share of cached prompt tokens over two replicas: {share:.3f}")
    assert share >= 0.72


def a_killed_process_is_a_pause(deployed: Deployed) -> None:
    undisturbed = streams(deployed)
    assert [told.end for told in undisturbed] == ["done"] * STREAMS
    engine = deployed.engine(deployed.replicas[0])
    for killed in (engine, deployed.replicas[1]):
        assert streams(deployed, partial(os.kill, killed, signal.SIGKILL)) == undisturbed
        wait(lambda: deployed.places == 16, "the replica does not come back")


def test_a_node_dies(deploy: Deploy) -> None:
    """Each node has the room of one replica; the first one has the API, too."""
    with deploy("3,2", replicas=2, replica_cpus=2, threads=1, threads_batch=1, speculation=False) as deployed:
        undisturbed = streams(deployed)
        assert streams(deployed, lambda: deployed.tell("lose")) == undisturbed
        wait(lambda: deployed.places == 8, "the lost replica is still counted")
        assert deployed.post("/v1/completions", {"prompt": "你好", "max_tokens": 5}).status_code == 200


def test_answers_of_an_application_that_ends_get_as_long_as_settings_say(deploy: Deploy) -> None:
    with deploy("3", parallel=STREAMS, shutdown_seconds=1, speculation=False) as deployed:
        ends = [told.end for told in streams(deployed, lambda: deployed.tell("delete"), tokens=3900)]
    assert any("shutting down" in end for end in ends), ends
    assert all("shutting down" in end or end == "done" for end in ends), ends


def test_scaling_and_an_update_lose_nothing(deploy: Deploy) -> None:
    settings = {"replicas": "1-2", "parallel": 2, "scale_up_seconds": 2, "scale_down_seconds": 4, "shutdown_seconds": 0}
    with deploy("4", **settings, speculation=False) as deployed:
        assert deployed.places == 2
        with callers(deployed, 6) as answers:
            wait(lambda: deployed.places == 4, "it does not scale up")
        with callers(deployed, 1) as fewer:
            wait(lambda: deployed.places == 2, "it does not scale down")
            wait(lambda: len(deployed.replicas) == 1, "the replica does not end")
        with callers(deployed, 2) as more:
            deployed.tell("deploy parallel=3")
            wait(lambda: deployed.places == 3, "the update does not arrive")
            wait(lambda: deployed.lines.count("ready\n") == 2, "the update does not end")
        assert {*answers, *fewer, *more} == {"done"}, [end for end in (*answers, *fewer, *more) if end != "done"]
        print(f"{len(answers)} answers while it scaled up, {len(fewer)} down, {len(more)} while it was updated")


@contextlib.contextmanager
def callers(deployed: Deployed, count: int) -> Iterator[Sequence[str]]:
    """Have so many callers ask one question after the other while the block runs; yields how the answers ended."""
    ends: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            told = Stream()
            stream(deployed, 1, told)
            ends.append(told.end)

    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask) for _ in range(count)]
        try:
            yield ends
        finally:
            over.set()
        for one in asked:
            one.result()
