"""Messages through Anthropic's official client, from the embedded model."""

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam

MODEL = "chatglm2-tiny"
HELLO: list[MessageParam] = [{"role": "user", "content": "你好"}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "查询天气",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["北京", "上海"]}},
        "required": ["city"],
    },
}
GREEDY = {"temperature": 0}
"""The current client has no argument for it any more."""


@pytest.fixture
def client(server_url: str) -> Anthropic:
    return Anthropic(base_url=server_url, api_key="none")


def test_a_stream_says_what_the_whole_message_says(client: Anthropic) -> None:
    whole = client.messages.create(model=MODEL, max_tokens=60, messages=HELLO, extra_body=GREEDY)
    with client.messages.stream(model=MODEL, max_tokens=60, messages=HELLO, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert [block.text for block in whole.content if block.type == "text"] == [text]
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_the_tokens_of_a_prompt_are_those_that_it_has(client: Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO, system="简短").input_tokens
    usage = client.messages.create(model=MODEL, max_tokens=1, messages=HELLO, system="简短").usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_a_stop_sequence_is_told(client: Anthropic) -> None:
    whole = client.messages.create(model=MODEL, max_tokens=60, messages=HELLO, extra_body=GREEDY)
    block = whole.content[0]
    assert block.type == "text"
    middle = block.text[3]
    cut = client.messages.create(model=MODEL, max_tokens=60, messages=HELLO, stop_sequences=[middle], extra_body=GREEDY)
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", middle)
    assert [one.text for one in cut.content if one.type == "text"] == [block.text[: block.text.index(middle)]]


def test_an_answer_that_was_begun_is_gone_on_with(client: Anthropic) -> None:
    whole = client.messages.create(model=MODEL, max_tokens=60, messages=HELLO, extra_body=GREEDY)
    block = whole.content[0]
    assert block.type == "text"
    begun: MessageParam = {"role": "assistant", "content": block.text[:3]}
    rest = client.messages.create(model=MODEL, max_tokens=60, messages=[*HELLO, begun], extra_body=GREEDY)
    assert [one.text for one in rest.content if one.type == "text"] == [block.text[3:]]


def test_a_tool_that_has_to_be_called_is(client: Anthropic) -> None:
    question: MessageParam = {"role": "user", "content": "北京的天气怎么样？"}
    message = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[question],
        tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert message.stop_reason == "tool_use"
    (use,) = message.content
    assert use.type == "tool_use"
    assert use.input["city"] in ("北京", "上海")
    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "晴"}],
    }
    messages = [question, message.to_param(), result]
    answer = client.messages.create(model=MODEL, max_tokens=20, messages=messages, tools=[WEATHER])
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")


def test_an_unknown_model_is_not_found(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claude-9", max_tokens=5, messages=HELLO)
    assert caught.value.type == "not_found_error"
