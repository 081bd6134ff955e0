"""Special tokens that a user types stay text: through the whole application, in every field, token by token.

What broke: every peer that renders its prompt as text and tokenises that with special tokens on (llama.cpp#24382).
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import llama_cpp
import pytest

from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.chat.tasks.task import Task
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from glmserve.model_pool.task_model import task_models
from tests.support import baichuan_checkpoint as baichuan
from tests.support import chatglm2_checkpoint as chatglm2
from tests.support.api import connect
from tests.support.byte_pairs import byte_pairs, model_file
from tests.support.checkpoints import real_checkpoint
from tests.support.native import Tokenizer, loaded
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Vocabulary:
    """A converted tokenizer, and which of its ids no text may become."""

    prompt_format: str
    tokenizer: LlamaTokenizer
    native: Tokenizer
    specials: frozenset[int]
    typed: str
    """All that is special, as a user would type it."""

    def outline(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(i for i in ids if i in self.specials)

    def text(self, ids: tuple[int, ...]) -> str:
        return b"".join(map(self.tokenizer.piece, ids)).decode()


def _real(name: str) -> bytes:
    return (real_checkpoint(name, "tokenizer.model") / "tokenizer.model").read_bytes()


def _tiny() -> bytes:
    return (ROOT / "models" / "tiny" / "tokenizer.model").read_bytes()


def _chatglm(folder: Path, model: bytes, family: FamilyName | None) -> None:
    vocab = 65024 if len(model) > 10**6 else 1700
    shape = chatglm2.Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=vocab)
    chatglm2.write_checkpoint(folder, shape, chatglm2.make_weights(shape, 1), tokenizer=model, dtype="F16")
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16, family=family)


def _baichuan(folder: Path, model: bytes) -> None:
    shape = baichuan.Shape(hidden=8, heads=1, ffn=8, layers=40, vocab=64000)
    baichuan.write_checkpoint(folder, shape, baichuan.make_weights(shape, 1), dtype="F16", tokenizer=model)
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16)


MAKERS: dict[str, Callable[[Path], None]] = {
    "chatglm2, embedded": lambda folder: _chatglm(folder, _tiny(), None),
    "chatglm2, real": lambda folder: _chatglm(folder, _real("chatglm2-6b"), None),
    "chatglm3, real": lambda folder: _chatglm(folder, _real("chatglm3-6b"), FamilyName.CHATGLM3),
    "codegeex2": lambda folder: _chatglm(
        folder, chatglm2.train_tokenizer(["def add(a, b): return a + b"], 290, add_dummy_prefix=False), None
    ),
    "glm4": lambda folder: _chatglm(folder, model_file(byte_pairs(440)), FamilyName.GLM4),
    "baichuan, real": lambda folder: _baichuan(folder, _real("baichuan-13b-chat")),
}


@pytest.fixture(scope="module", params=MAKERS)
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    folder = tmp_path_factory.mktemp("vocabulary")
    MAKERS[request.param](folder)
    tokenizer = load_tokenizer(folder / "m.gguf")
    with loaded(folder / "m.gguf", vocab_only=True) as handle:
        vocab = llama_cpp.llama_model_get_vocab(handle)
        native = Tokenizer(handle)
        roles = {tokenizer.special_id(role) for role in ("user", "assistant") if request.param.startswith("baichuan")}
        controls = {i for i in range(native.size) if llama_cpp.llama_vocab_is_control(vocab, i)}
        names = [tokenizer.name(i) for i in sorted(controls | roles | native.ends())]
        typed = "".join([*names, "sop", "[gMASK]sop", "<|user|>\n", "<reserved_106>"])
        name = request.param.partition(",")[0]
        yield Vocabulary(name, tokenizer, native, frozenset(controls | roles | native.ends()), typed)
    tokenizer.close()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(context_length=30_000)


@pytest.fixture
async def http(vocabulary: Vocabulary, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    card = ModelCard("m", 0, (), vocabulary.prompt_format)
    tasks = {"t": Task("t", "读 {{text}} 好", stop=("<|user|>",))}
    models = [ServedModel(card, ModelHost(engine, lambda: vocabulary.tokenizer))]
    registry = ModelRegistry(models, tasks=task_models(models, tasks.values()))
    async with connect(create_app(registry, ApiOptions(tasks=tasks))) as client:
        yield client


def _tool(text: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": text, "enum": [text]}}}
    return {"name": "f", "description": text, "parameters": schema}


def _chat(text: object, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 1, **fields}


def _call(text: str) -> dict[str, object]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": text})}}


Body = Callable[[str], dict[str, object]]

WITHOUT_TOOLS: dict[str, tuple[str, Body]] = {
    "content": ("/v1/chat/completions", _chat),
    "parts": ("/v1/chat/completions", lambda t: _chat([{"type": "text", "text": t}])),
    "stop": ("/v1/chat/completions", lambda t: _chat("x", stop=[t, t[:900]][1:])),
    "name": (
        "/v1/chat/completions",
        lambda t: {"messages": [{"role": "user", "name": t, "content": "x"}], "max_tokens": 1},
    ),
    "system and history": (
        "/v1/chat/completions",
        lambda t: {
            "messages": [
                {"role": "system", "content": t}, {"role": "user", "content": t},
                {"role": "assistant", "content": t}, {"role": "user", "content": t},
            ],
            "max_tokens": 1,
        },
    ),
    "an answer that is continued": (
        "/v1/chat/completions",
        lambda t: {
            "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": t}],
            "continue_final_message": True, "add_generation_prompt": False, "max_tokens": 1,
        },
    ),
    "prompt": ("/v1/completions", lambda t: {"prompt": t, "max_tokens": 1}),
    "prompt without prefix": ("/v1/completions", lambda t: {"prompt": t, "max_tokens": 1, "add_special_tokens": False}),
    "instructions and input": (
        "/v1/responses", lambda t: {"instructions": t, "input": t, "max_output_tokens": 16},
    ),
    "task variables": (
        "/v1/responses",
        lambda t: {"prompt": {"id": "t", "variables": {"text": t}}, "max_output_tokens": 16},
    ),
    "blocks and system": (
        "/v1/messages",
        lambda t: {
            "system": t, "max_tokens": 1, "stop_sequences": [t[:900]],
            "messages": [{"role": "user", "content": [{"type": "text", "text": t}]}],
        },
    ),
}  # fmt: skip

LEGACY: dict[str, tuple[str, Body]] = {"legacy": ("", lambda t: {"prompt": t, "history": [[t, t], ["", t]]})}

WITH_TOOLS: dict[str, tuple[str, Body]] = {
    "tools": ("/v1/chat/completions", lambda t: _chat(t, tools=[{"type": "function", "function": _tool(t)}])),
    "functions": ("/v1/chat/completions", lambda t: _chat(t, functions=[_tool(t)])),
    "calls and results": (
        "/v1/chat/completions",
        lambda t: {
            "messages": [
                {"role": "user", "content": t}, {"role": "assistant", "content": t, "tool_calls": [_call(t)]},
                {"role": "tool", "tool_call_id": "c", "content": t},
            ],
            "max_tokens": 1,
        },
    ),
    "tools of /v1/responses": (
        "/v1/responses",
        lambda t: {"input": t, "tools": [{"type": "function", **_tool(t)}], "max_output_tokens": 16},
    ),
    "tools of /v1/messages": (
        "/v1/messages",
        lambda t: {
            "max_tokens": 1, "tools": [{"name": "f", "description": t, "input_schema": _tool(t)["parameters"]}],
            "messages": [
                {"role": "user", "content": t},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": t}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": t}]},
            ],
        },
    ),
}  # fmt: skip


def test_the_text_would_become_special_tokens_if_it_were_let(vocabulary: Vocabulary) -> None:
    """What the tests below would notice."""
    wanted = set(vocabulary.outline(tuple(vocabulary.native.encode(vocabulary.typed, special=True))))
    assert len(wanted) >= 4
    assert vocabulary.outline(vocabulary.tokenizer.encode(vocabulary.typed)) == ()


async def test_no_field_of_a_request_brings_a_special_token_into_the_prompt(
    vocabulary: Vocabulary, engine: ScriptedEngine, http: httpx.AsyncClient
) -> None:
    chats = vocabulary.prompt_format != "codegeex2"
    cases = {**WITHOUT_TOOLS, **LEGACY, **WITH_TOOLS} if chats else WITHOUT_TOOLS
    legacy = "/baichuan" if vocabulary.prompt_format.startswith("baichuan") else "/chatglm"
    for field, (path, body) in cases.items():
        outlines, prompts = [], []
        for text in ("x", vocabulary.typed):
            reply = await http.post(path or legacy, json=body(text))
            assert reply.status_code == 200, (field, reply.text)
            prompts.append(engine.submissions[-1].prompt_ids)
            outlines.append(vocabulary.outline(prompts[-1]))
        # The special tokens of the format, the same ones in the same places, whatever the text says.
        assert outlines[0] == outlines[1], field
        if field in ("stop", "name"):
            assert prompts[0] == prompts[1], field
        else:
            assert _appears(vocabulary, prompts[1]), field


def _appears(vocabulary: Vocabulary, ids: tuple[int, ...]) -> bool:
    """Whether what was typed is in the prompt in full, as text; JSON may have escaped its line break."""
    texts = [vocabulary.text(ids), vocabulary.text(ids).replace("\\n", "\n")]
    return any(vocabulary.typed in text for text in texts)


@pytest.mark.parametrize("chat", [False, True])
async def test_tokenize_gives_text_too(vocabulary: Vocabulary, http: httpx.AsyncClient, chat: bool) -> None:
    asked = {"messages": [{"role": "user", "content": vocabulary.typed}]} if chat else {"prompt": vocabulary.typed}
    plain = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    typed_ids, plain_ids = [
        tuple((await http.post("/tokenize", json=body)).json()["tokens"]) for body in (asked, plain)
    ]
    assert vocabulary.outline(typed_ids) == vocabulary.outline(plain_ids)
