"""ChatGLM and Baichuan side by side from one configuration file, with adapters, on small random models."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import running_server
from tests.support import baichuan_checkpoint, chatglm2_checkpoint
from tests.support.chatglm2_checkpoint import SMALL
from tests.support.tuned_checkpoint import make_lora, tensors_of, write_adapter, write_prefix_folder

PREFIX_TOKENS = 32
CONFIG = """
threads = 1
default_max_tokens = 12

[[models]]
model = "{folder}/chatglm.gguf"
name = "chatglm"
alias = ["gpt-3.5-turbo"]

[[models.variants]]
name = "with-lora"
lora = "{folder}/lora.gguf"

[[models.variants]]
name = "with-prefix"
prefix = "{folder}/prefix.gguf"

[[models]]
model = "{folder}/merged.gguf"
load = "first_use"

[[models]]
model = "{folder}/baichuan.gguf"
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    weights = chatglm2_checkpoint.make_weights(SMALL, 3)
    base = chatglm2_checkpoint.write_checkpoint(folder / "chatglm", SMALL, weights)
    adapter = write_adapter(folder / "lora", make_lora(weights))
    prefix = write_prefix_folder(folder / "prefix", tensors_of(PREFIX_TOKENS, projection=False))
    other = baichuan_checkpoint.ALIBI
    baichuan_checkpoint.write_checkpoint(folder / "baichuan", other, baichuan_checkpoint.make_weights(other, 1))
    for source in (base, adapter, prefix, folder / "baichuan"):
        convert_checkpoint(source, folder / f"{source.name}.gguf", QuantType.F32)
    convert_checkpoint(base, folder / "merged.gguf", QuantType.F32, merge_lora=adapter)
    config = folder / "glmserve.toml"
    config.write_text(CONFIG.format(folder=folder))
    with running_server("--config", str(config), log=folder / "log") as (address, _):
        yield address


def answer(url: str, model: str, text: str = "今天天气很好") -> tuple[str, int]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == model
    return reply.json()["choices"][0]["message"]["content"], reply.json()["usage"]["prompt_tokens"]


def test_an_adapter_that_is_applied_answers_as_one_that_was_merged_and_the_model_as_without(url: str) -> None:
    plain = answer(url, "chatglm")
    assert answer(url, "with-lora") == answer(url, "merged") != plain
    assert answer(url, "chatglm") == plain


def test_a_tuned_prefix_changes_the_answer_and_takes_its_part_of_the_context(url: str) -> None:
    plain, tuned = answer(url, "chatglm"), answer(url, "with-prefix")
    assert tuned[0] != plain[0]
    assert tuned[1] == plain[1]
    cards = {card["id"]: card for card in httpx.get(f"{url}/v1/models").json()["data"]}
    assert cards["with-prefix"]["parent"] == cards["with-lora"]["parent"] == "chatglm"
    context = SMALL.context
    assert [cards[name]["context_length"] for name in ("chatglm", "with-lora", "with-prefix")] == [
        context, context, context - PREFIX_TOKENS,
    ]  # fmt: skip


def test_all_adapters_answer_at_once_as_they_do_alone(url: str) -> None:
    names = ("chatglm", "with-lora", "with-prefix") * 4
    alone = {name: answer(url, name) for name in names}
    body = {"messages": [{"role": "user", "content": "今天天气很好"}], "temperature": 0}

    async def together() -> list[str]:
        async with httpx.AsyncClient(timeout=60) as http:
            posts = [http.post(f"{url}/v1/chat/completions", json={**body, "model": name}) for name in names]
            return [reply.json()["choices"][0]["message"]["content"] for reply in await asyncio.gather(*posts)]

    assert asyncio.run(together()) == [alone[name][0] for name in names]


def test_both_scripts_of_the_original_deployment_are_answered(url: str) -> None:
    for path, body in (("/chatglm", {"prompt": "", "history": [], "top_p": ""}), ("/baichuan", {"prompt": ""})):
        reply = httpx.post(f"{url}{path}", json={**body, "max_length": 40}, timeout=60)
        assert list(reply.json()) == ["response", "history", "status", "time"]
        assert (reply.status_code, reply.json()["status"]) == (200, 200)


def test_baichuan_answers_openai_clients_too(url: str) -> None:
    text, prompt_tokens = answer(url, "baichuan", "北京")
    assert text
    assert prompt_tokens >= 3
