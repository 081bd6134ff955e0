"""Each family's form of tools: what its grammar lets through, its parser reads, whatever the model."""

import json

import jsonschema_rs
import pytest

from glmserve.chat.tools.types import Tool, ToolCall, ToolChoice, ToolConfig
from tests.unit.chat.tools.samples import AUTO, CLOCK, FORMS, REQUIRED, WEATHER, babble, ids, read, stubborn, takes

CALLS = {
    "text": '调用工具：get_weather\n参数：{"city": "北京", "days": 3}',
    "chatglm3": "get_weather\n ```python\ntool_call(city='北京', days=3)\n```",
    "glm4": 'get_weather\n{"city": "北京", "days": 3}',
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京", "days": 3}}\n</tool_call>',
    "llama3": '{"name": "get_weather", "parameters": {"city": "北京", "days": 3}}',
    "glm4.5": (
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>"
    ),
    "qwen3-coder": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n北京\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>"
    ),
}
MARKED = ("hermes", "llama3", "glm4.5", "qwen3-coder")
TEXTS = {"text": "你好\n\n再见 ", "chatglm3": "\n 你好\n\n再见 ", "glm4": "\n你好\n\n再见 "}
TEXTS |= dict.fromkeys(MARKED, "你好\n\n再见 ")
CALL = ToolCall("call_0", "get_weather", '{"city": "北京", "days": 3}')

families = pytest.mark.parametrize("family", FORMS)
terse = pytest.mark.parametrize("family", [family for family in FORMS if family not in ("glm4.5", "qwen3-coder")])
"""Those whose strings end by a single character, which a model that writes at random finds at some time."""


@families
def test_a_call_is_read_however_it_is_cut(family: str) -> None:
    text = CALLS[family]
    for size in range(1, len(text) + 1):
        parser = FORMS[family].parser(AUTO, ids())
        assert read(parser, [text[i : i + size] for i in range(0, len(text), size)]) == ("", (CALL,))


@families
def test_text_is_read_however_it_is_cut(family: str) -> None:
    text = TEXTS[family]
    for size in range(1, len(text) + 1):
        parser = FORMS[family].parser(AUTO, ids())
        assert read(parser, [text[i : i + size] for i in range(0, len(text), size)]) == ("你好\n\n再见 ", ())


@families
def test_the_grammar_takes_what_the_family_writes(family: str) -> None:
    form = FORMS[family]
    assert takes(form.grammar(AUTO), CALLS[family])
    assert takes(form.grammar(AUTO), TEXTS[family])
    assert takes(form.grammar(REQUIRED), CALLS[family])
    assert not takes(form.grammar(REQUIRED), TEXTS[family])
    only_the_clock = ToolConfig((WEATHER, CLOCK), allowed=frozenset({"now"}))
    assert not takes(form.grammar(only_the_clock), CALLS[family])


@families
@pytest.mark.parametrize("choice", ToolChoice)
def test_one_call_may_be_the_most(family: str, choice: ToolChoice) -> None:
    grammar = FORMS[family].grammar(ToolConfig((WEATHER,), choice, parallel=False))
    assert takes(grammar, CALLS[family])
    assert not takes(grammar, f"{CALLS[family]}\n{CALLS[family]}")


def test_where_the_family_can_there_may_be_several_calls_after_a_text() -> None:
    answer = f"我查一下。\n\n{CALLS['text']}\n{CALLS['text']}"
    assert takes(FORMS["text"].grammar(AUTO), answer)
    text, calls = read(FORMS["text"].parser(AUTO, ids()), answer)
    assert (text, [call.id for call in calls]) == ("我查一下。", ["call_0", "call_1"])
    assert not takes(FORMS["text"].grammar(AUTO), "\n".join([CALLS["text"]] * 9))


@pytest.mark.parametrize(
    "text", ["调用工具：get_weather", "调用工具：other\n参数：{}", "先说调用工具：now\n参数：{}", "调用工具"]
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    assert read(FORMS["text"].parser(AUTO, ids()), text) == (text, ())


@terse
@pytest.mark.parametrize("seed", range(20))
def test_where_calls_are_required_any_model_makes_valid_ones(family: str, seed: int) -> None:
    form = FORMS[family]
    text, calls = read(form.parser(REQUIRED, ids()), [babble(form.grammar(REQUIRED), seed)])
    assert text == ""
    assert 1 <= len(calls) <= 8
    schemas = {tool.name: dict(tool.parameters) for tool in (WEATHER, CLOCK)}
    for call in calls:
        assert jsonschema_rs.is_valid(schemas[call.name], json.loads(call.arguments)), call


@families
@pytest.mark.parametrize("byte", b"\n 0x")
def test_a_call_that_has_to_come_comes_whatever_the_model_would_rather_write(family: str, byte: int) -> None:
    """A model that liked line breaks wrote nothing else up to its limit, in place of the call."""
    properties = {"unit": {"enum": ["celsius", "kelvin"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}}
    tool = Tool("get_weather", "", {"type": "object", "properties": properties, "required": ["unit", "days"]})
    config = ToolConfig((tool,), ToolChoice.REQUIRED)
    text, calls = read(FORMS[family].parser(config, ids()), [stubborn(FORMS[family].grammar(config), byte)])
    assert (text, [call.name for call in calls]) == ("", ["get_weather"])


@pytest.mark.parametrize("family", ["glm4.5", "qwen3-coder"])
@pytest.mark.parametrize("seed", range(10))
def test_arguments_between_marks_become_json_that_fits(family: str, seed: int) -> None:
    properties = {
        "unit": {"type": "string", "enum": ["celsius", "华氏'\"\\"]},
        "code": {"type": "string", "maxLength": 6},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "place": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
    }
    tool = Tool("get_weather", "", {"type": "object", "properties": properties, "required": ["unit", "place"]})
    config = ToolConfig((tool, CLOCK), ToolChoice.REQUIRED)
    text, calls = read(FORMS[family].parser(config, ids()), [babble(FORMS[family].grammar(config), seed)])
    assert text == ""
    for call in calls:
        schema = tool.parameters if call.name == tool.name else CLOCK.parameters
        assert jsonschema_rs.is_valid(dict(schema), json.loads(call.arguments)), call


def test_a_text_may_come_before_calls_between_marks() -> None:
    answer = f"我查一下。\n{CALLS['hermes']}\n{CALLS['hermes']}\n"
    for size in range(1, len(answer)):
        pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
        text, calls = read(FORMS["hermes"].parser(AUTO, ids()), pieces)
        assert (text, [call.id for call in calls]) == ("我查一下。", ["call_0", "call_1"])
        assert {call.arguments for call in calls} == {CALL.arguments}
