"""Responses through the official client, from the embedded model."""

from typing import Literal

import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "查询天气",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["北京", "上海"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Verdict(BaseModel):
    label: Literal["正面", "负面"]


@pytest.fixture
def client(server_url: str) -> OpenAI:
    return OpenAI(base_url=f"{server_url}/v1", api_key="none")


def ask(client: OpenAI, question: str, before: Response | None = None) -> Response:
    return client.responses.create(
        input=question, previous_response_id=before.id if before else None, temperature=0, max_output_tokens=60
    )


def test_a_stream_says_what_the_whole_response_says(client: OpenAI) -> None:
    whole = ask(client, "你好")
    assert whole.output_text
    with client.responses.stream(model="chatglm2-tiny", input="你好", temperature=0, max_output_tokens=60) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_response_goes_on_from_another_and_finds_it_in_the_cache(client: OpenAI) -> None:
    first = ask(client, "你好")
    second = ask(client, "谢谢", first)
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert [item.type for item in client.responses.input_items.list(second.id)] == ["message"] * 3
    client.responses.delete(first.id)
    assert client.responses.retrieve(second.id).output_text == second.output_text
    with pytest.raises(BadRequestError, match="there is no response"):
        ask(client, "再见", first)


def test_a_stored_prompt_answers_in_its_form(client: OpenAI) -> None:
    labels = {
        client.responses.create(prompt={"id": "review", "variables": {"text": text}}).output_text
        for text in ("质量很好，非常满意，推荐！", "太差了，坏的，要退货")
    }
    assert labels == {"正面", "负面"}


def test_an_answer_is_parsed_by_its_schema(client: OpenAI) -> None:
    response = client.responses.parse(input="质量很好", text_format=Verdict, temperature=0, max_output_tokens=60)
    assert response.output_parsed is not None
    assert response.output_parsed.label in ("正面", "负面")


def test_a_required_call_is_one_that_the_function_takes(client: OpenAI) -> None:
    response = client.responses.create(
        input="北京的天气怎么样？", tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, temperature=0
    )
    (call,) = response.output
    assert call.type == "function_call"
    assert call.arguments in ('{"city": "北京"}', '{"city": "上海"}')
    answer = client.responses.create(
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "晴"}],
        previous_response_id=response.id,
        max_output_tokens=20,
    )
    assert answer.status in ("completed", "incomplete")
