"""Details that client libraries read: names, fingerprints, lists, paths in errors."""

import httpx
import pytest
from anthropic import Anthropic, beta_tool
from anthropic.types import ModelInfo
from anthropic.types.beta import BetaMessageParam

from tests.support.api import MODEL, make_app, serve
from tests.support.response_events import create, events
from tests.support.scripted_engine import ScriptedEngine, Submission
from tests.support.wire_models import checked

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
USER: BetaMessageParam = {"role": "user", "content": "几点了？"}
ANTHROPIC = {"anthropic-version": "2023-06-01"}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


async def ok(http: httpx.AsyncClient, path: str, body: object) -> None:
    reply = await http.post(path, json=body)
    assert reply.status_code == 200, reply.text


async def error(http: httpx.AsyncClient, path: str, body: object) -> str:
    reply = await http.post(path, json=body)
    assert reply.status_code == 400, reply.text
    return str(reply.json()["error"]["message"])


async def test_a_finished_call_has_its_name(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """openai-python reads it from the event, and failed with an AttributeError."""
    engine.reply = lambda _: "调用工具：get_weather\n参数：{}"
    told = await events(http, tools=[TOOL])
    (done,) = [event for event in told if event["type"] == "response.function_call_arguments.done"]
    assert (done["name"], done["arguments"]) == ("get_weather", "{}")


async def test_a_response_has_no_null_where_the_schema_wants_absence(http: httpx.AsyncClient) -> None:
    assert "user" not in await create(http)
    first, *_ = await events(http)
    assert not {"user", "usage"} & first["response"].keys()


async def test_callers_of_anthropic_get_models_in_its_shape(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models", headers=ANTHROPIC)).json()
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (MODEL, MODEL, False)
    one = (await http.get(f"/v1/models/{MODEL}", headers=ANTHROPIC)).json()
    assert one == listed["data"][0]
    checked(ModelInfo, one)


async def test_a_kind_of_models_that_there_is_not_is_refused(http: httpx.AsyncClient) -> None:
    reply = await http.get("/v1/models?kind=chat")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "kind")


async def test_a_result_without_a_call_is_named_in_the_words_of_the_dialect(http: httpx.AsyncClient) -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    assert "input[1].call_id: " in await error(http, "/v1/responses", {"input": [USER, output]})
    block = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, block]}]}
    assert "messages[0].content[1].tool_use_id: " in await error(http, MESSAGES, body)
    chat = {"messages": [USER, {"role": "tool", "tool_call_id": "c", "content": "x"}]}
    assert "messages[1].tool_call_id: " in await error(http, CHAT, chat)


@pytest.mark.parametrize(("given", "temperature"), [(False, 0.0), (True, 0.7), (None, 0.7)])
async def test_an_answer_that_is_not_sampled_is_greedy(
    http: httpx.AsyncClient, engine: ScriptedEngine, given: bool | None, temperature: float
) -> None:
    """Zhipu's SDKs say so with do_sample."""
    body = {"messages": [USER], "temperature": 0.7, "do_sample": given, "user_id": "u", "thinking": {"type": "enabled"}}
    await ok(http, CHAT, body)
    assert engine.submissions[-1].params.temperature == temperature


async def test_the_tool_runner_of_anthropics_sdks_may_begin_a_thread(http: httpx.AsyncClient) -> None:
    await ok(http, MESSAGES, {"messages": [USER], "max_tokens": 9, "thread": {"type": "create"}})


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
@pytest.mark.parametrize("messages", [[], [USER], [{"role": "user", "content": [RESULT]}]])
async def test_a_thread_is_not_continued_and_the_sdks_understand_that(
    http: httpx.AsyncClient, path: str, messages: list[object]
) -> None:
    """They send the new messages alone, without system and tools: an answer to those would be wrong."""
    thread = {"type": "continue", "previous_message_id": "msg_1"}
    reply = await http.post(path, json={"messages": messages, "max_tokens": 9, "thread": thread})
    fault = reply.json()["error"]
    assert (reply.status_code, fault["type"]) == (404, "not_found_error")
    assert fault["details"] == {"error_code": "thread_not_found"}
    assert "'msg_1'" in fault["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_of_anthropics_sdk_ends_with_the_answer(stream: bool) -> None:
    """Its second request continues a thread, and so has neither the question nor the tools."""
    asked: list[str] = []

    @beta_tool
    def get_weather(city: str) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return f"{city}：晴"

    def reply(submission: Submission) -> str:
        return "晴天。" if "的结果：" in submission.prompt else '调用工具：get_weather\n参数：{"city": "北京"}'

    engine = ScriptedEngine(reply)
    with serve(make_app(engine)) as url, Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        runner = client.beta.messages.tool_runner(
            model=MODEL, max_tokens=99, system="简短", messages=[USER], tools=[get_weather], stream=stream
        )
        last = runner.until_done()
    (block,) = last.content
    assert block.type == "text"
    assert block.text == "晴天。"
    assert asked == ["北京"]
    assert len(engine.submissions) == 2
    assert "几点了？" in engine.submissions[-1].prompt
