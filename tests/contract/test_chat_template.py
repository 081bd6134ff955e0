"""A model whose prompts are those of its file's chat template: on the wire, with reasoning apart from the text."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from glmserve.bootstrap.app import create_app
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.prompts.template.probe import find_traits
from glmserve.chat.prompts.template.rendering import TemplateSource
from glmserve.chat.renderer import TemplateRenderer
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.api import connect
from tests.support.message_events import check_message, gather, read_message_events
from tests.support.response_events import check_order, create, events
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine
from tests.support.served_template import served_template

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
SAID = [{"role": "user", "content": "2+2?"}]
SOURCE = TemplateSource(
    "{% for m in messages %}{% if m.role == 'system' and loop.index0 %}{{ raise_exception('system first') }}{% endif %}"
    "<|user|>{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% elif open %}<think>\n{% endif %}",
    ("<|user|>", "<|assistant|>"),
)
THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour."


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(reply=lambda _: THOUGHT, per_step=1)


@pytest.fixture
async def http(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with served_template(SOURCE, engine) as client:
        yield client


async def _ask(http: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    reply = await http.post(CHAT, json={"messages": SAID, **fields})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_reasoning_is_a_field_of_its_own_and_is_counted(http: httpx.AsyncClient) -> None:
    reply = await _ask(http)
    message = reply["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Two and two.", "Four.")
    assert reply["choices"][0]["finish_reason"] == "stop"
    counts = reply["usage"]
    reasoning = len("<think>\nTwo and two.\n</think>")
    assert abs(counts["completion_tokens_details"]["reasoning_tokens"] - reasoning) <= len("<think>")
    assert counts["completion_tokens"] > reasoning


async def test_a_stream_has_the_same_pieces(http: httpx.AsyncClient) -> None:
    body = {"messages": SAID, "stream": True, "stream_options": {"include_usage": True}}
    reply = await http.post(CHAT, json=body)
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Two and two."
    assert "".join(delta.get("content", "") for delta in deltas) == "Four."
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 10


async def test_reasoning_that_is_cut_off_leaves_no_text(http: httpx.AsyncClient) -> None:
    choice = (await _ask(http, max_tokens=12))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == ""
    assert "Two and two.".startswith(choice["message"]["reasoning_content"])


async def test_the_prompt_may_begin_the_reasoning(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: "Two and two.\n</think>\n\nFour."
    message = (await _ask(http, chat_template_kwargs={"open": True}))["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Two and two.", "Four.")


async def test_thinking_can_be_turned_off(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: "Four."
    message = (await _ask(http, chat_template_kwargs={"enable_thinking": False}))["choices"][0]["message"]
    assert "reasoning_content" not in message
    assert message["content"] == "Four."
    assert engine.submissions[0].prompt.endswith("</think>\n\n")


async def test_an_answer_in_a_format_is_text_from_its_beginning(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.reply = lambda _: '{"a": 1}'
    form = {"type": "json_object"}
    fields = {"response_format": form, "chat_template_kwargs": {"open": True}}
    message = (await _ask(http, **fields))["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content")) == ('{"a": 1}', None)


async def test_options_cannot_forge_special_tokens(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await _ask(http, chat_template_kwargs={"bos_token": "<|user|>", "messages": [], "open": "<|assistant|>"})
    assert "2+2?" in engine.submissions[0].prompt
    plain = len(engine.submissions[0].prompt_ids)
    await _ask(http, chat_template_kwargs={"open": True})
    assert len(engine.submissions[1].prompt_ids) == plain


async def test_what_the_template_rejects_is_a_400_in_its_words(http: httpx.AsyncClient) -> None:
    messages = [*SAID, {"role": "system", "content": "x"}, *SAID]
    reply = await http.post(CHAT, json={"messages": messages})
    assert reply.status_code == 400
    assert "system first" in reply.json()["error"]["message"]


THINKING = {"messages": SAID, "max_tokens": 100, "thinking": {"type": "enabled", "budget_tokens": 1024}}


async def test_a_message_has_a_block_of_thinking_where_the_request_enables_it(http: httpx.AsyncClient) -> None:
    reply = (await http.post("/v1/messages", json=THINKING)).json()
    check_message(reply)
    thought, said = reply["content"]
    assert (thought["type"], thought["thinking"], said["text"]) == ("thinking", "Two and two.", "Four.")
    assert thought["signature"]


async def test_a_streamed_message_has_the_same_blocks(http: httpx.AsyncClient) -> None:
    events = read_message_events((await http.post("/v1/messages", json={**THINKING, "stream": True})).text)
    whole = (await http.post("/v1/messages", json=THINKING)).json()
    assert gather(events)["content"] == whole["content"]
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert list(dict.fromkeys(deltas)) == ["thinking_delta", "signature_delta", "text_delta"]


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
async def test_without_thinking_a_message_has_none(
    http: httpx.AsyncClient, engine: ScriptedEngine, thinking: object
) -> None:
    if thinking:
        engine.reply = lambda _: "Four."
    reply = (await http.post("/v1/messages", json={**THINKING, "thinking": thinking})).json()
    assert [block["text"] for block in reply["content"]] == ["Four."]
    assert engine.submissions[0].prompt.endswith("</think>\n\n") == bool(thinking)


async def test_a_response_has_an_item_of_reasoning_and_counts_it(http: httpx.AsyncClient) -> None:
    reply = await create(http, input="2+2?")
    thought, said = reply["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Two and two."}]
    assert said["content"][0]["text"] == "Four."
    assert reply["usage"]["output_tokens_details"]["reasoning_tokens"] > 10


async def test_a_streamed_response_has_the_same_items(http: httpx.AsyncClient) -> None:
    found = await events(http, input="2+2?")
    whole = await create(http, input="2+2?")
    assert [item["content"] for item in check_order(found)["output"]] == [item["content"] for item in whole["output"]]
    kinds = [event["type"] for event in found]
    assert kinds.count("response.reasoning_text.done") == 1
    deltas = (event["delta"] for event in found if event["type"] == "response.reasoning_text.delta")
    assert "".join(deltas) == "Two and two."


async def test_reasoning_that_is_cut_off_is_an_incomplete_item(http: httpx.AsyncClient) -> None:
    reply = await create(http, input="2+2?", max_output_tokens=12)
    assert [item["type"] for item in reply["output"]] == ["reasoning"]
    assert (reply["status"], reply["output"][0]["status"]) == ("incomplete", "incomplete")
    message = (await http.post("/v1/messages", json={**THINKING, "max_tokens": 12})).json()
    assert [block["type"] for block in message["content"]] == ["thinking"]


_NEXT = {"role": "user", "content": "3+3?"}
_ANTHROPIC = [
    {"type": "thinking", "thinking": "Two and two.", "signature": "x"},
    {"type": "redacted_thinking", "data": "abc"},
    {"type": "text", "text": "Four."},
]
_ITEMS = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Two and two."}]},
    {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "abc"},
    {"role": "assistant", "content": "Four."},
]


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (CHAT, {"messages": [*SAID, {"role": "assistant", "content": "Four.", name: "Two and two."}, _NEXT]})
        for name in ("reasoning_content", "reasoning")
    ]
    + [
        ("/v1/messages", {"messages": [*SAID, {"role": "assistant", "content": _ANTHROPIC}, _NEXT], "max_tokens": 9}),
        ("/v1/responses", {"input": [*SAID, *_ITEMS, _NEXT]}),
    ],
)
async def test_reasoning_of_the_history_is_given_to_a_template_that_takes_it(
    http: httpx.AsyncClient, engine: ScriptedEngine, url: str, body: dict[str, object]
) -> None:
    assert (await http.post(url, json=body)).status_code == 200
    assert "(Two and two.)Four. 3+3?" in engine.submissions[0].prompt


async def test_a_response_that_goes_on_has_the_reasoning_before_it(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    first = await create(http, input="2+2?")
    await create(http, input="3+3?", previous_response_id=first["id"])
    assert "(Two and two.)Four. 3+3?" in engine.submissions[1].prompt


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end within 1 s"),
        ("{{ 'x' * 10**11 }}", "too much memory"),
        ("{{ raise_exception('no such turn') }}", "no such turn"),
    ],
)
async def test_a_template_that_loops_explodes_or_raises_costs_its_request_a_400(bad: str, reason: str) -> None:
    text = (
        f"{{% if messages[0].content == 'bad' %}}{bad}{{% endif %}}<|user|>{{{{ messages[0].content }}}}<|assistant|>"
    )
    source = TemplateSource(text, SOURCE.specials)
    renderer = TemplateRenderer(source, seconds=1.0)
    form = TemplateFormat(renderer, find_traits(renderer, source))
    engine = ScriptedEngine()
    served = ServedModel(ModelCard("m", 0, prompt_format="template"), ModelHost(engine, ByteTokenizer), form)
    try:
        async with connect(create_app(ModelRegistry([served]))) as client:
            for content, status in (("good", 200), ("bad", 400), ("good", 200)):
                reply = await client.post(CHAT, json={"messages": [{"role": "user", "content": content}]})
                assert reply.status_code == status, reply.text
                assert status == 200 or reason in reply.json()["error"]["message"]
    finally:
        renderer.close()
