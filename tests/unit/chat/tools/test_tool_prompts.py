"""What each family is told of tools, of calls and of their results."""

import json

import pytest

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.tools.types import Tool, ToolCall
from tests.support.scripted_engine import ByteTokenizer

SYSTEM, USER, ASSISTANT, TOOL = Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("weather", "天气", CITY)
CALL = ToolCall("c1", "weather", '{"city": "北京"}')
CHAT = (
    Message(SYSTEM, "s"),
    Message(USER, "q"),
    Message(ASSISTANT, "a", (CALL,)),
    Message(TOOL, "晴", tool_call_id="c1"),
)
GMASK, SOP, ON_USER, ON_ASSISTANT = 300, 301, 302, 303
ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, OBSERVATION = 304, 305, 306, 307


def ids(
    family: str, *messages: Message, tools: tuple[Tool, ...] = (WEATHER,), continued: bool = False
) -> tuple[int, ...]:
    return prompt_format(family).encode(messages, ByteTokenizer(), tools, continued=continued)


def encoded(text: str) -> tuple[int, ...]:
    return ByteTokenizer().encode(text)


def test_chatglm2_is_told_in_words_what_there_is_and_how_to_call_it() -> None:
    text = ByteTokenizer().decode(ids("chatglm2", *CHAT[:2])[2:])
    assert text.startswith(
        "[Round 1]\n\n问：s\n\n你可以使用下面的工具：\n\nweather：天气\n参数的格式：" + json.dumps(CITY)
    )
    assert "调用工具：工具名称\n参数：{" in text
    assert text.endswith("\n\nq\n\n答：")


def test_chatglm2_sees_calls_as_answers_and_results_as_questions() -> None:
    text = ByteTokenizer().decode(ids("chatglm2", *CHAT, tools=())[2:])
    assert text == (
        "[Round 1]\n\n问：s\n\nq\n\n答：a\n调用工具：weather\n参数：" + CALL.arguments + "\n\n"
        "[Round 2]\n\n问：工具 weather 的结果：\n晴\n\n答："
    )


def test_the_prompt_of_a_growing_chat_keeps_its_beginning() -> None:
    first, second = ids("chatglm2", *CHAT[:2]), ids("chatglm2", *CHAT)
    assert second[: len(first)] == first


def test_baichuan_is_told_in_front_like_of_other_system_text() -> None:
    told = ids("baichuan", *CHAT[:2])
    text = ByteTokenizer().decode(told[: told.index(ON_USER)])
    assert text.startswith("s\n\n你可以使用下面的工具：")
    assert told[told.index(ON_USER) :] == (ON_USER, *encoded("q"), ON_ASSISTANT)


def test_chatglm3_gets_the_tools_as_json_in_one_system_message() -> None:
    definition = [{"name": "weather", "description": "天气", "parameters": CITY}]
    told = (
        "s\n\nAnswer the following questions as best as you can. You have access to the following tools:\n"
        + json.dumps(definition, indent=4, ensure_ascii=False)
    )
    line = encoded("\n")
    assert ids("chatglm3", *CHAT) == (
        *(GMASK, SOP),
        *(ROLE_SYSTEM, *line, *encoded(told)),
        *(ROLE_USER, *line, *encoded("q")),
        *(ROLE_ASSISTANT, *line, *encoded("a")),
        *(ROLE_ASSISTANT, *encoded("weather\n"), *encoded("```python\ntool_call(city='北京')\n```")),
        *(OBSERVATION, *line, *encoded("晴")),
        ROLE_ASSISTANT,
    )


def test_glm4_gets_the_tools_under_headings_and_calls_with_json() -> None:
    told = ids("glm4", *CHAT)
    heading = 's\n\n# 可用工具\n\n## weather\n\n{\n    "name": "weather",'
    system = ByteTokenizer().decode(told[told.index(ROLE_SYSTEM) + 1 : told.index(ROLE_USER)])
    assert system.removeprefix("\n ").startswith(heading)
    assert system.endswith("}\n在调用上述函数时，请使用 Json 格式表示调用的参数。")
    call = (ROLE_ASSISTANT, *encoded("weather\n"), *encoded(CALL.arguments), OBSERVATION)
    start = told.index(OBSERVATION) - len(call) + 1
    assert told[start : start + len(call)] == call


def test_glm4_says_who_it_is_only_where_the_caller_does_not() -> None:
    assert "你是一个名为 ChatGLM" in ByteTokenizer().decode(ids("glm4", CHAT[1])[2:-1])
    assert "你是一个名为 ChatGLM" not in ByteTokenizer().decode(ids("glm4", *CHAT[:2])[2:-1])


def test_glm4_of_2025_gets_the_tools_first_and_all_system_text_behind_them() -> None:
    """As its authors' template has it, which does not say who the model is, and moves system messages to the front."""
    late = (CHAT[1], Message(SYSTEM, "later"), *CHAT[2:])
    told = ids("glm4-0414", CHAT[0], *late)
    description = json.dumps(
        {"name": "weather", "description": "天气", "parameters": CITY}, indent=4, ensure_ascii=False
    )
    tools = f"# 可用工具\n\n## weather\n\n{description}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
    line = encoded("\n")
    assert told[: told.index(ROLE_ASSISTANT)] == (
        *(GMASK, SOP),
        *(ROLE_SYSTEM, *line, *encoded(tools)),
        *(ROLE_SYSTEM, *line, *encoded("s")),
        *(ROLE_SYSTEM, *line, *encoded("later")),
        *(ROLE_USER, *line, *encoded("q")),
    )
    assert told[told.index(ROLE_ASSISTANT) :] == ids("glm4", *CHAT)[ids("glm4", *CHAT).index(ROLE_ASSISTANT) :]
    assert ids("glm4-0414", *CHAT, tools=()) == ids("glm4", *CHAT, tools=())


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    called = (CHAT[1], Message(ASSISTANT, "", (ToolCall("c1", "now", arguments),)), CHAT[3])
    assert "调用工具：now\n参数：{}" in ByteTokenizer().decode(ids("chatglm2", *called, tools=())[2:])
    assert bytes(i - 3 for i in encoded("tool_call()")[1:]) in bytes(
        i - 3 for i in ids("chatglm3", *called, tools=()) if i < 300
    )


def test_arguments_that_are_no_object_are_passed_on_as_they_are() -> None:
    called = (CHAT[1], Message(ASSISTANT, "", (ToolCall("c1", "now", '{"a'),)), CHAT[3])
    assert '参数：{"a\n' in ByteTokenizer().decode(ids("chatglm2", *called, tools=())[2:])
    assert ids("chatglm3", *called, tools=())


GO_ON = (Message(USER, "q"), Message(ASSISTANT, "a"))


def test_an_answer_is_continued_right_after_its_text() -> None:
    line = encoded("\n")
    assert ids("chatglm2", *GO_ON, tools=(), continued=True) == (GMASK, SOP, *encoded("[Round 1]\n\n问：q\n\n答：a"))
    assert ids("baichuan", *GO_ON, tools=(), continued=True) == (ON_USER, *encoded("q"), ON_ASSISTANT, *encoded("a"))
    assert ids("codegeex2", *GO_ON, tools=(), continued=True) == (GMASK, SOP, *encoded("qa"))
    for family in ("chatglm3", "glm4"):
        expected = (GMASK, SOP, ROLE_USER, *line, *encoded("q"), ROLE_ASSISTANT, *line, *encoded("a"))
        assert ids(family, *GO_ON, tools=(), continued=True) == expected


def test_several_messages_of_an_answer_that_has_begun_are_joined() -> None:
    told = ids("chatglm2", *GO_ON, Message(ASSISTANT, "b"), tools=(), continued=True)
    assert told == (GMASK, SOP, *encoded("[Round 1]\n\n问：q\n\n答：a\nb"))


def test_only_an_answer_is_continued() -> None:
    for family in ("chatglm2", "baichuan", "chatglm3", "glm4"):
        with pytest.raises(PromptError):
            ids(family, *CHAT, tools=(), continued=True)


def test_an_answer_to_system_text_is_continued() -> None:
    messages = (Message(SYSTEM, "s"), Message(ASSISTANT, "a"))
    told = ids("chatglm2", *messages, tools=(), continued=True)
    assert told == (GMASK, SOP, *encoded("[Round 1]\n\n问：s\n\n答：a"))
    told = ids("baichuan", *messages, tools=(), continued=True)
    assert told == (ON_USER, *encoded("s"), ON_ASSISTANT, *encoded("a"))


def test_a_model_of_code_knows_no_tools() -> None:
    for messages, tools in ((CHAT[1:2], (WEATHER,)), (CHAT, ())):
        with pytest.raises(PromptError, match="does not support tools"):
            ids("codegeex2", *messages, tools=tools)
