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
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.engine.gguf.chat_template import file_template
from glmserve.engine.gguf.gguf_check import open_header
from tests.support.conversations import hostile_conversation, ordinary_conversation
from tests.support.llama_sources import with_weights
from tests.support.real_templates import template_model, template_names

COUNT = int(os.environ.get("SOAK_CONVERSATIONS", "1000"))
THINK = (
    "Bielik-11B-v3.0-Instruct",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "Reka-Edge",
    "deepseek-ai-DeepSeek-V3.1",
    "deepseek-ai-DeepSeek-V3.2",
    "deepseek-ai-DeepSeek-V4",
    "deepseek-ai-DeepSeek-V4-Flash-0731",
    "google-gemma-4-31B-it",
    "google-gemma-4-31B-it-interleaved",
    "llama-cpp-rwkv-world",
    "openbmb-MiniCPM5-1B",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
)
"""Templates whose models think only if asked to, or as they choose: llama-server asks by default, this server as their
authors do not. They are compared with ``enable_thinking`` set."""
KEEP = ("deepseek-ai-DeepSeek-V4", "deepseek-ai-DeepSeek-V4-Flash-0731")
"""Templates that leave out the reasoning of earlier answers unless told: llama-server tells every template to keep it.
They are compared with ``drop_thinking`` unset."""
TRIMMED = ("StepFun3.5-Flash",)
"""Templates for which llama-server itself trims all texts, against loops in the reasoning: neither the template nor
transformers does. They are compared with texts that have no blanks around them."""


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


@pytest.fixture(params=template_names())
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return with_weights(template_model(request.param)).write(tmp_path / f"{request.param}.gguf")


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
    file, tokenizer = file_template(open_header(model)), load_tokenizer(model)
    form = template_format(file)
    form = form.with_options({"enable_thinking": True} if model.stem in THINK else {})
    form = form.with_options({"drop_thinking": False} if model.stem in KEEP else {})
    numbers, compared = random.Random(5), 0
    for _ in range(COUNT):
        # llama.cpp's own Jinja trims blanks of ASCII alone; transformers and this server trim this one, too.
        given = ordinary_conversation(numbers)
        messages = [Message(one.role, one.content.replace("\u3000", " ")) for one in given]
        if model.stem in TRIMMED:
            messages = [Message(one.role, one.content.strip()) for one in messages]
        if any(name in message.content for message in messages for name in file.specials if len(name) > 2):
            continue  # such as <|"|>, which llama-server takes for Gemma's special token
        told = [{"role": message.role.value, "content": message.content} for message in messages]
        prompt = _ask(f"{peer}/apply-template", {"messages": told})["prompt"]
        theirs = _ask(f"{peer}/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        assert list(form.encode(messages, tokenizer)) == theirs, messages
        compared += 1
    assert compared >= COUNT * 0.99


def test_no_hostile_conversation_has_a_special_token_but_the_templates_own(model: Path) -> None:
    file, tokenizer = file_template(open_header(model)), load_tokenizer(model)
    form = template_format(file)
    controls = {tokenizer.special_id(name) for name in file.specials if _is_special(tokenizer, name)}
    names = [tokenizer.name(i) for i in sorted(controls)]
    numbers, compared = random.Random(17), 0
    for _ in range(COUNT):
        given = hostile_conversation(numbers, names)
        # Ministral 3 rejects an answer without any text.
        messages = [one if one.content else Message(one.role, " ") for one in given]
        harmless = [Message(one.role, "x" if one.content.strip() else one.content) for one in messages]
        expected, found = ([i for i in form.encode(m, tokenizer) if i in controls] for m in (harmless, messages))
        assert found == expected, messages
        compared += len(found)
    assert compared >= COUNT  # RWKV has one in each prompt


def _is_special(tokenizer: LlamaTokenizer, name: str) -> bool:
    try:
        return tokenizer.special_id(name) >= 0
    except KeyError:
        return False
