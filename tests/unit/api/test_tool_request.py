"""What a chat request may say about tools, and about an answer that has begun."""

import pytest

from glmserve.api.common.tools import to_tool_config
from glmserve.api.openai.chat_completions.protocol import parse_chat_request, to_params
from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.tools.types import ToolChoice, ToolConfig, ToolError
from glmserve.engine.params import GrammarKind
from glmserve.generation.generate import GenerationRequest
from glmserve.generation.prepare import prepare
from glmserve.http.errors import InvalidRequest, TextTooLong
from glmserve.http.request_context import RequestContext
from tests.support.api import served_model
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

USER = {"role": "user", "content": "几点了？"}
NOW = {"type": "function", "function": {"name": "now", "description": None}}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"properties": {"city": {"type": "string"}}}, "strict": True},
}


def offer(**body: object) -> ToolConfig | None:
    return to_tool_config(parse_chat_request({"messages": [USER], **body}))


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


async def generation(prompt_format: str = "chatglm2", /, **body: object) -> GenerationRequest:
    model = served_model(ScriptedEngine(), prompt_format=prompt_format)
    await model.host.start()
    return await prepare(
        model, to_params(parse_chat_request({"messages": [USER], **body}), model.card), RequestContext()
    )


def prompt(request: GenerationRequest) -> str:
    return ByteTokenizer().decode(request.prompt_ids)


def test_without_tools_or_with_none_to_be_called_there_is_no_offer() -> None:
    assert offer() is None
    assert offer(tools=[], tool_choice="auto", parallel_tool_calls=True) is None
    assert offer(tools=[NOW], tool_choice="none") is None
    assert offer(functions=[], function_call="none") is None


def test_tools_may_be_called_or_not_by_default() -> None:
    found = offer(tools=[WEATHER, NOW])
    assert found is not None
    assert [tool.name for tool in found.callable] == ["get_weather", "now"]
    assert (found.choice, found.max_calls) == (ToolChoice.AUTO, 8)
    assert found.tools[0].parameters == {"type": "object", "properties": {"city": {"type": "string"}}}
    assert found.tools[1].parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_one_call_at_most_where_calls_may_not_be_parallel() -> None:
    found = offer(tools=[NOW], parallel_tool_calls=False)
    assert found is not None
    assert found.max_calls == 1


@pytest.mark.parametrize(
    ("choice", "names", "mode"),
    [
        ("required", ["get_weather", "now"], ToolChoice.REQUIRED),
        (named("now"), ["now"], ToolChoice.REQUIRED),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("now")]}},
            ["now"],
            ToolChoice.AUTO,
        ),
    ],
)
def test_a_choice_says_whether_to_call_and_what(choice: object, names: list[str], mode: ToolChoice) -> None:
    found = offer(tools=[WEATHER, NOW], tool_choice=choice)
    assert found is not None
    assert [tool.name for tool in found.callable] == names
    assert len(found.tools) == 2
    assert found.choice is mode


def test_functions_are_tools_of_which_one_is_called() -> None:
    found = offer(functions=[NOW["function"]], function_call={"name": "now"})
    assert found is not None
    assert (found.choice, found.max_calls) == (ToolChoice.REQUIRED, 1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": 1, "function": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"function": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [NOW], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [NOW], "tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"tools": [NOW], "tool_choice": named("other")}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "x"}], "function_call": "required"}, "function_call"),
        ({"functions": [{"name": "x"}], "function_call": {"name": "y"}}, "function_call"),
        ({"tools": [NOW], "functions": [{"name": "x"}]}, "functions"),
        ({"tools": [NOW], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_bad_tools_are_refused_by_their_path(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        offer(**body)
    assert caught.value.param == param


def function(name: str = "f", parameters: object = None) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def deep(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([function("a b")], "must be 1 to 128"),
        ([function("x" * 129)], "must be 1 to 128"),
        ([function("x\n")], "must be 1 to 128"),
        ([function("f"), function("f")], "two tools are called f"),
        ([function(f"f{i}") for i in range(129)], "at most 128 items"),
        ([function("f", {"type": "string"})], "type object"),
        ([function("f", deep(40))], "nested more than 64 deep"),
        ([function("f", {"description": "x" * 70_000})], "more than 65536 characters"),
    ],
)
def test_tools_out_of_bounds_are_refused(tools: list[object], message: str) -> None:
    with pytest.raises((ToolError, InvalidRequest), match=message):
        offer(tools=tools)


@pytest.mark.anyio
async def test_tools_reach_the_prompt_and_hold_the_answer() -> None:
    request = await generation(tools=[NOW])
    assert request.tools is not None
    assert "now" in prompt(request)
    assert request.params.grammar is not None
    assert request.params.grammar.kind is GrammarKind.LARK
    plain = await generation(tools=[NOW], tool_choice="none")
    assert "now" not in prompt(plain)
    assert plain.params.grammar is None


@pytest.mark.anyio
async def test_a_model_that_only_completes_code_refuses_tools() -> None:
    with pytest.raises(PromptError, match="does not support tools"):
        await generation("codegeex2", tools=[NOW])


@pytest.mark.anyio
async def test_the_text_of_tools_counts_for_the_length_of_the_prompt() -> None:
    with pytest.raises(TextTooLong, match="4096 tokens"):
        await generation(tools=[function("f", {"description": "x" * 30_000})])


@pytest.mark.anyio
async def test_a_result_must_belong_to_a_call_before_it() -> None:
    messages = [USER, {"role": "tool", "tool_call_id": "call_9", "content": "x"}]
    with pytest.raises(PromptError, match=r"messages\[1\].*'call_9'"):
        await generation(messages=messages)
    with pytest.raises(PromptError, match=r"messages\[1\].name"):
        await generation(messages=[USER, {"role": "function", "name": "now", "content": "x"}])


BEGUN = [USER, {"role": "assistant", "content": "现在是"}]


@pytest.mark.anyio
@pytest.mark.parametrize("more", [{}, {"add_generation_prompt": False}])
async def test_a_final_message_is_continued_right_after_its_text(more: dict[str, object]) -> None:
    request = await generation(messages=BEGUN, continue_final_message=True, **more)
    assert prompt(request) == "[Round 1]\n\n问：几点了？\n\n答：现在是"
    assert request.continued


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True, "tools": [NOW], "tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True, "tools": [NOW]}, "logprobs"),
    ],
)
async def test_contradictions_are_refused(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await generation(messages=BEGUN, **body)
    assert caught.value.param == param


@pytest.mark.anyio
@pytest.mark.parametrize("field", ["prefix", "partial"])
async def test_a_message_may_say_itself_that_the_answer_goes_on_with_it(field: str) -> None:
    request = await generation(messages=[USER, {**BEGUN[1], field: True}])
    assert prompt(request) == "[Round 1]\n\n问：几点了？\n\n答：现在是"
    assert request.continued
    assert not (await generation(messages=[USER, {**BEGUN[1], field: False}])).continued


@pytest.mark.anyio
async def test_an_answer_that_has_begun_goes_on_as_text_though_the_prompt_tells_of_tools() -> None:
    request = await generation(messages=BEGUN, continue_final_message=True, tools=[NOW])
    assert prompt(request).endswith("答：现在是")
    assert "now" in prompt(request)
    assert (request.tools, request.params.grammar) == (None, None)


@pytest.mark.anyio
async def test_only_an_answer_can_be_continued() -> None:
    with pytest.raises(PromptError, match="must be the assistant's"):
        await generation(continue_final_message=True)
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    with pytest.raises(PromptError, match="tool calls cannot be continued"):
        await generation(messages=[USER, {"role": "assistant", "tool_calls": [call]}], continue_final_message=True)
