"""The Responses API, through the official client and as it goes over the wire."""

import json

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError, RateLimitError
from openai.types.responses import Response, ResponsePromptParam
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import BaseModel

from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.task import Task, TaskSampling
from glmserve.engine.errors import EngineDied, QueueFull
from glmserve.engine.params import Grammar, GrammarKind
from tests.support.api import ALIAS, MODEL
from tests.support.response_events import URL, check_order, create, events, refusal
from tests.support.scripted_engine import ScriptedEngine
from tests.support.wire_models import checked

pytestmark = pytest.mark.anyio

ANSWER = "你问的是：你好"
GRAMMAR = Grammar(GrammarKind.REGEX, "正面|负面")
TASKS = {
    "review": Task("review", "评论：{{text}}", sampling=TaskSampling(0.0, max_tokens=9), stop=("\n",), grammar=GRAMMAR),
    "fixed": Task("fixed", "你是谁？"),
}


@pytest.fixture
def options() -> ApiOptions:
    return ApiOptions(tasks=TASKS, max_responses=4)


def question(engine: ScriptedEngine) -> str:
    return engine.submissions[-1].prompt


async def test_a_response_has_text_and_status_and_counts(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.cached_tokens = 12
    response = await openai.responses.create(model=ALIAS, input="你好", metadata={"a": "b"}, temperature=0.5)
    assert response.output_text == ANSWER
    assert response.status == "completed"
    assert response.model == MODEL
    assert response.metadata == {"a": "b"}
    assert (response.temperature, response.top_p) == (0.5, 0.8)
    assert response.usage is not None
    assert response.usage.input_tokens == len(engine.submissions[0].prompt_ids)
    assert response.usage.input_tokens_details.cached_tokens == 12
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


@pytest.mark.parametrize(
    "given",
    [
        "你好",
        [{"role": "user", "content": "你好"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "你好"}]}],
        [{"role": "user", "content": "你", "type": None}, {"role": "user", "content": "好"}],
    ],
)
async def test_input_is_a_string_or_items(http: httpx.AsyncClient, engine: ScriptedEngine, given: object) -> None:
    await create(http, input=given)
    assert question(engine).replace("你\n好", "你好") == "[Round 1]\n\n问：你好\n\n答："


async def test_a_conversation_can_be_sent_whole(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    given = [
        {"role": "developer", "content": "简短"},
        {"role": "user", "content": "a"},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b", "annotations": []}],
        },
        {"role": "user", "content": "c"},
    ]
    await create(http, input=given, instructions="礼貌")
    assert question(engine) == "[Round 1]\n\n问：礼貌\n\n简短\n\na\n\n答：b\n\n[Round 2]\n\n问：c\n\n答："


async def test_a_stream_tells_of_the_same_response(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    whole = await create(http)
    streamed = check_order(await events(http))
    own = ("id", "created_at")
    for response in (whole, streamed):
        response["output"][0].pop("id")
    assert {name: value for name, value in whole.items() if name not in own} == {
        name: value for name, value in streamed.items() if name not in own
    }


async def test_the_helper_of_the_client_gathers_a_stream(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model=MODEL, input="你好") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(deltas) == final.output_text == ANSWER
    assert len(deltas) > 1


async def test_an_answer_that_is_cut_off_is_incomplete(http: httpx.AsyncClient) -> None:
    whole = await create(http, max_output_tokens=7)
    streamed = check_order(await events(http, max_output_tokens=7))
    for response in (whole, streamed):
        assert response["status"] == response["output"][0]["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["output"][0]["content"][0]["text"] == "你问"


async def test_an_empty_answer_is_a_message_too(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: ""
    assert (await create(http))["output"][0]["content"][0]["text"] == ""
    assert check_order(await events(http))["output"][0]["content"][0]["text"] == ""


async def test_a_response_goes_on_from_another(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda submission: f"answer {len(engine.submissions)}"
    first = await openai.responses.create(input="a", instructions="简短")
    second = await openai.responses.create(input="b", previous_response_id=first.id)
    third = await openai.responses.create(input="c", previous_response_id=second.id, instructions="礼貌")
    assert third.previous_response_id == second.id
    assert question(engine) == (
        "[Round 1]\n\n问：礼貌\n\na\n\n答：answer 1\n\n[Round 2]\n\n问：b\n\n答：answer 2\n\n[Round 3]\n\n问：c\n\n答："
    )


async def test_a_streamed_response_can_be_continued_once_it_is_announced(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    final = check_order(await events(http))
    await create(http, input="b", previous_response_id=final["id"])
    assert question(engine).startswith(f"[Round 1]\n\n问：你好\n\n答：{ANSWER}")


async def test_a_response_can_be_fetched_and_deleted(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(input="你好")
    assert await openai.responses.retrieve(response.id) == response
    await openai.responses.delete(response.id)
    for call in (openai.responses.retrieve, openai.responses.delete, openai.responses.input_items.list):
        with pytest.raises(NotFoundError) as caught:
            await call(response.id)
        assert caught.value.code == "response_not_found"


async def test_what_a_response_was_made_from_is_listed_in_pages(openai: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    first = await openai.responses.create(input=[{"role": "system", "content": "s"}, {"role": "user", "content": "a"}])
    second = await openai.responses.create(input="b", previous_response_id=first.id)
    listed = (await http.get(f"{URL}/{second.id}/input_items")).json()
    checked(ResponseItemList, listed)
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert texts == ["b", "你问的是：s\n\na", "a", "s"]
    paged = openai.responses.input_items.list(second.id, order="asc", limit=1)
    assert [item.id async for item in paged] == [item["id"] for item in reversed(listed["data"])]


@pytest.mark.parametrize(
    ("query", "param"),
    [("order=up", "order"), ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("after=x", "after")],
)
async def test_a_page_that_cannot_be_is_refused(http: httpx.AsyncClient, query: str, param: str) -> None:
    response = await create(http)
    reply = await http.get(f"{URL}/{response['id']}/input_items?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_what_is_not_stored_cannot_be_gone_on_from(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    response = await create(http, store=False)
    assert response["store"] is False
    gone = (400, "previous_response_id", "previous_response_not_found")
    assert await refusal(http, previous_response_id=response["id"]) == gone
    assert await refusal(http, previous_response_id="resp_0") == gone
    assert len(engine.submissions) == 1


async def test_old_responses_make_room_for_new_ones(http: httpx.AsyncClient) -> None:
    ids = [(await create(http))["id"] for _ in range(5)]
    assert [(await http.get(f"{URL}/{one}")).status_code for one in ids] == [404, 200, 200, 200, 200]


async def test_a_response_is_not_stored_where_its_reader_left(engine: ScriptedEngine, http: httpx.AsyncClient) -> None:
    engine.fail, engine.per_step = EngineDied("gone"), 6
    failed = (await events(http))[-1]["response"]
    assert (await http.get(f"{URL}/{failed['id']}")).status_code == 404


async def test_a_failure_in_a_stream_ends_it_as_failed(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.fail, engine.per_step = RuntimeError("secret"), 6
    told = await events(http)
    assert [event["type"] for event in told[-2:]] == ["response.output_text.delta", "response.failed"]
    response = told[-1]["response"]
    assert response["error"] == {"code": "server_error", "message": "the server failed to handle this request"}
    assert response["output"][0]["status"] == "incomplete"
    assert engine.running == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_engine_refuses_has_a_status(
    openai: AsyncOpenAI, engine: ScriptedEngine, streamed: bool
) -> None:
    engine.reject = QueueFull(waiting=9, retry_after=3)
    with pytest.raises(RateLimitError):
        await openai.responses.create(input="你好", stream=streamed)
    engine.reject, engine.context_length = None, 10
    with pytest.raises(BadRequestError) as caught:
        await openai.responses.create(input="你好" * 10, stream=streamed)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "telepathy"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"max_output_tokens": -2}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"truncation": "some"}, "truncation"),
        ({"include": ["everything"]}, "include[0]"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"prompt": {"id": "review", "version": "2", "variables": {"text": "x"}}}, "prompt.version"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, engine: ScriptedEngine, fields: dict[str, object], param: str
) -> None:
    status, told, code = await refusal(http, **fields)
    assert (status, told) == (400, param)
    assert code in ("invalid_value", "unsupported_parameter", "unknown_parameter", "missing_required_parameter")
    assert engine.submissions == []


async def test_a_stored_prompt_asks_and_samples(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    prompt: ResponsePromptParam = {
        "id": "review",
        "variables": {"text": {"type": "input_text", "text": "很好{{text}}"}},
    }
    response = await openai.responses.create(prompt=prompt)
    assert question(engine) == "[Round 1]\n\n问：评论：很好{{text}}\n\n答："
    params = engine.submissions[-1].params
    assert (params.temperature, params.max_tokens, params.grammar) == (0.0, 9, GRAMMAR)
    assert response.prompt is not None
    assert response.prompt.id == "review"
    listed = await openai.responses.input_items.list(response.id)
    assert len(listed.data) == 1


async def test_a_request_may_say_more_than_its_stored_prompt(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    prompt = {"id": "review", "variables": {"text": "好"}}
    await create(http, prompt=prompt, input="再来", instructions="简短", temperature=0.7, max_output_tokens=5)
    assert question(engine) == "[Round 1]\n\n问：简短\n\n评论：好\n再来\n\n答："
    params = engine.submissions[-1].params
    assert (params.temperature, params.max_tokens, params.top_p) == (0.7, 5, 0.8)


async def test_the_grammar_of_a_stored_prompt_gives_way_to_tools(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    await create(
        http, prompt={"id": "review", "variables": {"text": "好"}}, tools=[{"type": "function", "name": "look_up"}]
    )
    grammar = engine.submissions[-1].params.grammar
    assert grammar is not None
    assert "look_up" in grammar.source


@pytest.mark.parametrize(
    ("prompt", "refused"),
    [
        ({"id": "none"}, (404, "prompt.id", "prompt_not_found")),
        ({"id": "review"}, (400, "prompt.variables.text", "invalid_value")),
        ({"id": "fixed", "variables": {"text": "x"}}, (400, "prompt.variables.text", "invalid_value")),
        ({"id": "review", "variables": {"text": 7}}, (400, "prompt.variables.text", "invalid_value")),
        (
            {"id": "review", "variables": {"text": {"type": "input_image"}}},
            (400, "prompt.variables.text", "invalid_value"),
        ),
    ],
)
async def test_a_stored_prompt_must_be_there_and_have_its_variables(
    http: httpx.AsyncClient, prompt: object, refused: tuple[int, str, str]
) -> None:
    assert await refusal(http, prompt=prompt) == refused


async def test_a_conversation_that_is_too_long_loses_its_oldest_part_where_requested(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.context_length = 200
    earlier = [{"role": role, "content": f"{n}" * 20} for n in range(9) for role in ("user", "assistant")]
    given = [{"role": "system", "content": "s"}, *earlier, {"role": "user", "content": "last"}]
    assert (await refusal(http, input=given))[2] == "context_length_exceeded"
    await create(http, input=given, truncation="auto")
    assert question(engine).startswith("[Round 1]\n\n问：s\n\n8888")
    assert question(engine).endswith("问：last\n\n答：")
    await create(http, input=given[:3] + given[-1:], truncation="auto")
    assert question(engine).startswith("[Round 1]\n\n问：s\n\n0000")


async def test_tokens_of_a_prompt_are_counted(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    response = await openai.responses.create(input="你好", instructions="简短")
    counted = await openai.responses.input_tokens.count(input="你好", instructions="简短")
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens
    assert len(engine.submissions) == 1


async def test_log_probabilities_come_with_the_text(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    whole, streamed = await create(http, **fields), check_order(await events(http, **fields))
    for response in (whole, streamed):
        part = response["output"][0]["content"][0]
        assert b"".join(bytes(token["bytes"]) for token in part["logprobs"]).decode() == part["text"]
        assert all(len(token["top_logprobs"]) == 1 for token in part["logprobs"])
    assert engine.submissions[0].params.logprobs == 1


class Verdict(BaseModel):
    label: str


async def test_an_answer_can_be_constrained_to_a_schema(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: '{"label": "正面"}'
    response = await openai.responses.parse(input="好", text_format=Verdict)
    assert response.output_parsed == Verdict(label="正面")
    grammar = engine.submissions[0].params.grammar
    assert grammar is not None
    assert grammar.kind is GrammarKind.JSON_SCHEMA
    assert json.loads(grammar.source)["properties"]["label"]["type"] == "string"


@pytest.mark.parametrize("kind", ["json_object", "text"])
async def test_the_format_comes_back(http: httpx.AsyncClient, engine: ScriptedEngine, kind: str) -> None:
    response = await create(http, text={"format": {"type": kind}, "verbosity": "low"})
    assert response["text"] == {"format": {"type": kind}}
    assert (engine.submissions[0].params.grammar is None) == (kind == "text")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ],
)
async def test_a_format_that_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, fields: dict[str, object], param: str
) -> None:
    assert (await refusal(http, **fields))[:2] == (400, param)


async def test_only_background_responses_could_be_cancelled_or_streamed_again(openai: AsyncOpenAI) -> None:
    response: Response = await openai.responses.create(input="你好")
    with pytest.raises(BadRequestError):
        await openai.responses.cancel(response.id)
    with pytest.raises(BadRequestError):
        await openai.responses.retrieve(response.id, stream=True)
    with pytest.raises(APIStatusError):
        await openai.responses.create(model="gpt-9", input="你好")
