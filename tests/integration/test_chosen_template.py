"""--chat-template FILE, a template of the file by its name, and the one for conversations with tools."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from glmserve.cli.main import main
from tests.conftest import running_server
from tests.support.gguf_file import Entry
from tests.support.llama_sources import template, vocabulary, with_template, with_weights

OWN = "{% for m in messages %}<|user|>own: {{ m.content }}<|end|>{% endfor %}<|assistant|>"
GIVEN = "{% for m in messages %}<|user|>given: {{ m.content }}<|end|>{% endfor %}<|assistant|>"
NAMED = "{% for m in messages %}<|user|>named: {{ m.content }}<|end|>{% endfor %}<|assistant|>"
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
ASKED: dict[str, object] = {"messages": [{"role": "user", "content": "q"}]}


def with_tools() -> str:
    text = template("Qwen-Qwen2.5-7B-Instruct")
    return text.replace("<|im_start|>", "<|assistant|>").replace("<|im_end|>", "<|end|>")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = with_template(with_weights(vocabulary("phi-3")), OWN)
    named = [Entry.text(f"tokenizer.chat_template.{name}", text.encode()) for name, text in _named().items()]
    return file.put(*named).write(tmp_path_factory.mktemp("model") / "m.gguf")


def _named() -> dict[str, str]:
    return {"tool_use": with_tools(), "other": NAMED}


def inspected(model: Path, cache: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        main, ["inspect", str(model), "--no-run", "--json", *options], env={"GLMSERVE_CACHE_DIR": str(cache)}
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def prompt_of(report: dict[str, Any]) -> str:
    return str(report["prompt"]["text"])


def test_a_file_takes_the_place_of_the_models_own_template(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(GIVEN, "utf-8")
    assert "given:" in prompt_of(inspected(model, tmp_path, "--chat-template", str(tmp_path / "t.jinja")))


def test_another_template_of_the_model_is_taken_by_its_name(model: Path, tmp_path: Path) -> None:
    assert "named:" in prompt_of(inspected(model, tmp_path, "--chat-template", "other"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--chat-template", "gone"), "--chat-template gone: cannot be read (No such file or directory); m.gguf has"),
        (("--chat-template", "bad.jinja"), "the chat template bad.jinja cannot be used"),
        (("--chat-template", "other", "--prompt-format", "glm4"), "leave out --prompt-format"),
    ],
)
def test_a_template_that_cannot_be_taken_is_refused_by_name(
    model: Path, tmp_path: Path, options: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jinja").write_text("{% for %}", "utf-8")
    served = CliRunner().invoke(
        main, ["serve", str(model), "--port", "0", *options], env={"GLMSERVE_CACHE_DIR": str(tmp_path)}
    )
    assert served.exit_code == 2, served.output
    assert told in " ".join(served.stderr.split())


def test_a_conversation_with_tools_has_the_template_for_tools(model: Path, tmp_path: Path) -> None:
    with running_server(str(model), "--device", "cpu", "--context", "2048", log=tmp_path / "log") as (url, _):
        plain = text_of(url, ASKED)
        told = text_of(url, {**ASKED, "tools": TOOLS})
        body = {**ASKED, "tools": TOOLS, "tool_choice": "required", "seed": 1, "parallel_tool_calls": False}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert "own: q" in plain
    assert "own:" not in told
    assert "# Tools" in told
    assert reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "now"


def text_of(url: str, body: dict[str, object]) -> str:
    tokens = httpx.post(f"{url}/tokenize", json=body).json()["tokens"]
    text: str = httpx.post(f"{url}/detokenize", json={"tokens": tokens}).json()["prompt"]
    return text
