"""GGUF files of our families that others made: served without --prompt-format, and their answers end."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.cli.main import main
from glmserve.convert.gguf_format import FamilyName
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.messages import FinishReason
from glmserve.engine.params import SamplingParams
from glmserve.generation.detokenizer import Detokenizer
from tests.conftest import running_server
from tests.support.byte_pairs import byte_pairs, model_file
from tests.support.foreign_gguf import as_0414, foreign_chatglm, foreign_glm4
from tests.support.gguf_file import Entry


def _chatglm3(path: Path) -> None:
    foreign_chatglm(path, FamilyName.CHATGLM3, "chatglm-spm")


def _glm4(path: Path) -> None:
    foreign_glm4(path, model_file(byte_pairs(440)))


def _glm4_0414(path: Path) -> None:
    as_0414(foreign_glm4(path, model_file(byte_pairs(440)), "glm4")).write(path)


MAKERS: dict[str, Callable[[Path], None]] = {"chatglm3": _chatglm3, "glm4": _glm4, "glm4-0414": _glm4_0414}
END_TOKENS = ("<|user|>", "<|observation|>")


@dataclass(frozen=True)
class Served:
    """A foreign file on a real server."""

    url: str
    path: Path
    prompt_format: str
    log: Path
    tokenizer: LlamaTokenizer


@pytest.fixture(scope="module", params=MAKERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("foreign")
    MAKERS[request.param](folder / "m.gguf")
    options = ("--device", "cpu", "--parallel", "2", "--context", "256", "--log-level", "info")
    with running_server(str(folder / "m.gguf"), *options, log=folder / "log") as (url, _):
        tokenizer = load_tokenizer(folder / "m.gguf")
        yield Served(url, folder / "m.gguf", request.param, folder / "log", tokenizer)


def _ask(served: Served, **fields: object) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "今天"}], "max_tokens": 8, "seed": 1, **fields}
    reply = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    choice: dict[str, Any] = reply.json()["choices"][0]
    return choice


def test_the_format_is_inferred_and_the_log_says_from_what(served: Served) -> None:
    lines = [line for line in served.log.read_text("utf-8").splitlines() if "inferred from" in line]
    assert len(lines) == 1
    assert f"prompts are written as {served.prompt_format}, inferred from architecture" in lines[0]
    prompt = httpx.post(f"{served.url}/tokenize", json={"messages": [{"role": "user", "content": "今天"}]}).json()
    roles = [served.tokenizer.special_id(name) for name in ("[gMASK]", "sop", "<|user|>", "<|assistant|>")]
    assert [i for i in prompt["tokens"] if i in roles] == roles


@pytest.mark.parametrize("name", END_TOKENS)
def test_an_answer_ends_at_the_formats_end_token_which_is_not_shown(served: Served, name: str) -> None:
    choice = _ask(served, logit_bias={str(served.tokenizer.special_id(name)): 100})
    assert choice["finish_reason"] == "stop"
    assert not choice["message"]["content"]


@pytest.mark.parametrize("fields", [{"ignore_eos": True}, {"min_tokens": 8}], ids=str)
def test_an_end_token_that_is_held_back_is_not_sampled(served: Served, fields: dict[str, object]) -> None:
    bias = {str(served.tokenizer.special_id(name)): 100 for name in END_TOKENS}
    choice = _ask(served, logit_bias=bias, **fields)
    assert choice["finish_reason"] == "length"


def test_a_constrained_answer_may_end_by_it_where_it_is_complete(served: Served) -> None:
    bias = {str(served.tokenizer.special_id(name)): 50 for name in END_TOKENS}
    choice = _ask(served, logit_bias=bias, structured_outputs={"regex": "[0-9]{2}"}, max_tokens=20)
    assert choice["finish_reason"] == "stop"
    content = str(choice["message"]["content"])
    assert content.isdigit()
    assert len(content) == 2


def test_doctor_and_list_show_it(served: Served, tmp_path: Path) -> None:
    environment = {"GLMSERVE_CACHE_DIR": str(tmp_path), "COLUMNS": "200"}
    report = CliRunner().invoke(main, ["doctor", str(served.path)], env=environment)
    assert report.exit_code == 0, report.output
    assert f"prompts as {served.prompt_format}" in report.output
    assert "inferred from architecture" in report.output
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "theirs.f16.gguf").write_bytes(served.path.read_bytes())
    listed = json.loads(CliRunner().invoke(main, ["list", "--json"], env=environment).output)
    assert [model["family"] for model in listed] == [served.prompt_format]


def test_without_the_formats_end_tokens_the_answer_would_not_end(served: Served) -> None:
    """What the tests above would notice: llama.cpp itself does not know the token for an end."""

    async def run(end_tokens: tuple[str, ...]) -> tuple[FinishReason | None, str]:
        engine = EngineClient(EngineConfig(served.path, 128, 1, device=Device.CPU, end_tokens=end_tokens))
        await engine.start()
        await engine.wait_ready(60)
        observation = served.tokenizer.special_id("<|observation|>")
        detokenizer = Detokenizer(strip_leading_space=False)
        params = SamplingParams(max_tokens=5, temperature=0.0, logit_bias=((observation, 100.0),))
        try:
            text, reason = "", None
            async for output in await engine.submit(served.tokenizer.encode("今天"), params):
                text += "".join(detokenizer.feed(served.tokenizer.piece(i)) for i in output.token_ids)
                reason = output.finish_reason
            return reason, text
        finally:
            await engine.stop()

    assert asyncio.run(run(())) == (FinishReason.LENGTH, "")
    assert asyncio.run(run(END_TOKENS)) == (FinishReason.STOP, "")


def test_an_ambiguous_file_asks_for_the_format_and_names_the_candidates(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    file = foreign_chatglm(path, FamilyName.CHATGLM2, "default")
    file.put(Entry.text("general.name", b"ours")).write(path)
    for command, status in (("serve", 2), ("doctor", 1)):
        found = CliRunner().invoke(main, [command, str(path)], env={"GLMSERVE_CACHE_DIR": str(tmp_path / "c")})
        assert found.exit_code == status
        text = " ".join(found.output.split())
        assert "may be of several families" in text
        assert "set it with --prompt-format chatglm2 or codegeex2" in text


def test_the_language_part_of_a_model_for_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    file = as_0414(foreign_glm4(path, model_file(byte_pairs(440)), "glm4"))
    sections = Entry.array("glm4.rope.dimension_sections", 5, [n.to_bytes(4, "little") for n in (8, 12, 12, 0)])
    file.put(sections).write(path)
    with pytest.raises(ModelLoadError, match="sees images"):
        check_gguf(path)
