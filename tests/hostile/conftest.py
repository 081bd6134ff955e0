"""One real server for all hostile requests, and what has to be so after each of them."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import running_server
from tests.support.bert import random_bert
from tests.support.encoders import random_encoder, write_encoder
from tests.support.processes import engine_pid

CONFIG = """
threads = 1
max_output_tokens = 300
request_timeout = 110
prompts = "{prompts}"

[[models]]
model = "{gguf}"
name = "chat"

[[models]]
model = "{bert}"
name = "vectors"

[[models]]
model = "{reranker}"
name = "scores"
"""
TASK = """
template = "读 {{text}} 好"
[sampling]
max_tokens = 3
"""
_FINE = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 2, "temperature": 0}


@dataclass(frozen=True)
class Target:
    """The server under attack."""

    http: httpx.Client
    process: subprocess.Popen[bytes]
    secret: Path
    """A file that nobody may learn anything of."""
    log: Path
    engine: int
    """The process of its first engine."""

    def answers(self) -> None:
        """Fail where it does not answer a usual request, or not with the engine that it began with."""
        reply = self.http.post("/v1/chat/completions", json=_FINE)
        assert reply.status_code == 200, reply.text
        assert engine_pid(self.process.pid) == self.engine, "the engine died of it"

    def memory(self) -> int:
        """Bytes that the server has resident, without its engines."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@pytest.fixture(scope="package")
def running(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    prompts = folder / "prompts"
    prompts.mkdir()
    (prompts / "reading.toml").write_text(TASK, "utf-8")
    secret = folder / "secret.toml"
    secret.write_text('template = "the secret"', "utf-8")
    config = folder / "glmserve.toml"
    bert = random_bert().write(folder / "bert.gguf")
    reranker = folder / "reranker.gguf"
    convert_checkpoint(
        write_encoder(folder / "reranker", random_encoder("xlm-roberta", "rank")), reranker, QuantType.F32
    )
    config.write_text(CONFIG.format(prompts=prompts, gguf=tiny_gguf, bert=bert, reranker=reranker))
    log = folder / "log"
    with running_server("--config", str(config), log=log) as (url, process), httpx.Client(base_url=url) as http:
        http.timeout = 120
        while http.get("/health").status_code != 200:
            assert process.poll() is None
        yield Target(http, process, secret, log, engine_pid(process.pid))


@pytest.fixture
def target(running: Target) -> Iterator[Target]:
    yield running
    running.answers()
    assert running.memory() < 600e6
    assert "Traceback" not in running.log.read_text("utf-8")
