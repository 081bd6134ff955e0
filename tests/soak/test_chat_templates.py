"""Prompts of real templates on real vocabularies against llama-server's, which is built from llama-cpp-python's source.

SOAK_LLAMA_SERVER names one that is built already; SOAK_CONVERSATIONS is how many are compared for each template.
"""

import json
import os
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.compare.build import build, remembered_cmake_args
from glmserve.bootstrap.build import template_format
from glmserve.chat.prompts.messages import Message
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.engine.gguf.chat_template import file_template
from glmserve.engine.gguf.gguf_check import open_header
from tests.support.conversations import ordinary_conversation
from tests.support.llama_sources import template, vocabulary, with_template, with_weights

COUNT = int(os.environ.get("SOAK_CONVERSATIONS", "1000"))
PAIRS = [
    ("qwen2", "Qwen-Qwen3-0.6B"),
    ("llama-bpe", "meta-llama-Llama-3.1-8B-Instruct"),
    ("phi-3", "microsoft-Phi-3.5-mini-instruct"),
]


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("SOAK_LLAMA_SERVER")
    if given:
        return Path(given)
    return build(tmp_path_factory.mktemp("compare"), None, remembered_cmake_args()).programs / "llama-server"


@pytest.fixture
def peer(llama_server: Path, model: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(llama_server), "-m", str(model), "--port", str(port), "--jinja", "-c", "512", "-np", "1"]
    with subprocess.Popen([*command, "--no-warmup"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            process.terminate()


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[1])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    which, name = request.param
    return with_template(with_weights(vocabulary(which)), template(name)).write(tmp_path / "m.gguf")


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


def _ask(url: str, body: Mapping[str, object]) -> dict[str, object]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        found: dict[str, object] = json.load(reply)
        return found


def test_ordinary_conversations_have_the_ids_of_llama_server(model: Path, peer: str) -> None:
    form, tokenizer = template_format(file_template(open_header(model))), load_tokenizer(model)
    numbers = random.Random(5)
    for _ in range(COUNT):
        # llama.cpp's own Jinja trims blanks of ASCII alone; transformers and this server trim this one, too.
        given = ordinary_conversation(numbers)
        messages = [Message(one.role, one.content.replace("\u3000", " ")) for one in given]
        told = [{"role": message.role.value, "content": message.content} for message in messages]
        prompt = _ask(f"{peer}/apply-template", {"messages": told})["prompt"]
        theirs = _ask(f"{peer}/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        assert list(form.encode(messages, tokenizer)) == theirs, messages
