"""Tools through the official client, on the embedded model: one that was never trained for them."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, Field

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "北京今天的天气怎么样？"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "查询一个城市的天气",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["北京", "上海"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
        },
    },
}
NOW: ChatCompletionToolParam = {"type": "function", "function": {"name": "now"}}
TOOLS = [WEATHER, NOW]


def check(name: str, arguments: str) -> None:
    values = json.loads(arguments)
    if name == "now":
        assert values == {}
    else:
        assert name == "get_weather"
        assert values["city"] in ("北京", "上海")
        assert values["days"] in range(1, 8)


@pytest.fixture(scope="module")
def client(server_url: str) -> OpenAI:
    return OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    return client.models.list().data[0].id


@pytest.mark.parametrize("seed", range(4))
def test_required_calls_are_valid_whatever_the_model(client: OpenAI, model: str, seed: int) -> None:
    reply = client.chat.completions.create(
        model=model,
        messages=ASK,
        tools=TOOLS,
        tool_choice="required",
        temperature=2,
        top_p=1,
        seed=seed,
        max_tokens=400,
    )
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = choice.message.tool_calls or []
    assert 1 <= len(calls) <= 8
    for call in calls:
        assert call.type == "function"
        check(call.function.name, call.function.arguments)


def test_a_named_tool_is_called_once_and_its_result_goes_back(client: OpenAI, model: str) -> None:
    reply = client.chat.completions.create(
        model=model,
        messages=ASK,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        temperature=0,
    )
    (call,) = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    check("get_weather", call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "晴，25 度"}
    messages: list[Any] = [*ASK, reply.choices[0].message, result]  # its own reply, as its types do not say
    final = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, max_tokens=40)
    assert final.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_a_streamed_call_says_what_the_whole_one_says(client: OpenAI, model: str) -> None:
    whole = client.chat.completions.create(
        model=model, messages=ASK, tools=TOOLS, tool_choice="required", temperature=0
    )
    with client.chat.completions.stream(
        model=model, messages=ASK, tools=TOOLS, tool_choice="required", temperature=0
    ) as stream:
        final = stream.get_final_completion()
    said = [(call.function.name, call.function.arguments) for call in final.choices[0].message.tool_calls or []]
    calls = whole.choices[0].message.tool_calls or []
    assert said == [(call.function.name, call.function.arguments) for call in calls if call.type == "function"]
    assert len(said) == len(calls)


def test_a_model_that_may_call_still_answers(client: OpenAI, model: str) -> None:
    reply = client.chat.completions.create(model=model, messages=ASK, tools=TOOLS, temperature=0, max_tokens=60)
    message = reply.choices[0].message
    assert message.content or message.tool_calls


def test_a_pydantic_tool_is_parsed(client: OpenAI, model: str) -> None:
    from openai import pydantic_function_tool

    class Rate(BaseModel):
        stars: int = Field(ge=1, le=5)
        good: bool

    parsed = client.chat.completions.parse(
        model=model, messages=ASK, tools=[pydantic_function_tool(Rate)], tool_choice="required", temperature=0
    )
    for call in parsed.choices[0].message.tool_calls or []:
        assert isinstance(call.function.parsed_arguments, Rate)


def test_a_schema_that_no_grammar_can_hold_is_relaxed_unless_it_is_strict(client: OpenAI, model: str) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)b"}}}
    loose: ChatCompletionToolParam = {"type": "function", "function": {"name": "f", "parameters": schema}}
    reply = client.chat.completions.with_raw_response.create(model=model, messages=ASK, tools=[loose], max_tokens=5)
    assert "x" in reply.headers["x-glmserve-relaxed-schemas"]
    strict: ChatCompletionToolParam = {
        "type": "function",
        "function": {"name": "f", "parameters": schema, "strict": True},
    }
    with pytest.raises(BadRequestError, match="f"):
        client.chat.completions.create(model=model, messages=ASK, tools=[strict])


def test_an_answer_is_continued(client: OpenAI, model: str) -> None:
    begun: list[ChatCompletionMessageParam] = [*ASK, {"role": "assistant", "content": "北京今天"}]
    reply = client.chat.completions.create(
        model=model,
        messages=begun,
        temperature=0,
        max_tokens=20,
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    assert reply.choices[0].message.content is not None
    assert not reply.choices[0].message.content.startswith("北京今天")
