"""Every odd way in which callers of the original filled in its five fields."""

from math import inf, nan

import pytest

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import ToolCall
from glmserve.compat.legacy import process_response, prompt_params
from glmserve.compat.schemas import LegacyRequest, parse_legacy_request
from glmserve.http.errors import InvalidRequest


def parse(**body: object) -> LegacyRequest:
    return parse_legacy_request({"prompt": "x", **body})


def refusal(**body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    return caught.value


def texts(history: object) -> list[list[str]]:
    return [[message.content for message in each] for each in parse(history=history).rounds]


@pytest.mark.parametrize("nothing", [None, 0, 0.0, "", " ", "0", "0.0", False, [], {}])
def test_nothing_leaves_it_to_the_contract(nothing: object) -> None:
    request = parse(max_length=nothing, top_p=nothing, temperature=nothing)
    assert (request.max_length, request.top_p, request.temperature) == (None, None, None)
    assert parse() == parse(max_length=nothing)


def test_numbers_may_be_strings() -> None:
    request = parse(max_length="100", top_p=" 0.5 ", temperature="1")
    assert (request.max_length, request.top_p, request.temperature) == (100, 0.5, 1.0)


def test_what_the_original_took_is_cut_to_what_is_sensible() -> None:
    request = parse(max_length=10**400, top_p=7, temperature=100)
    assert (request.max_length or 0) > 10**9
    assert (request.top_p, request.temperature) == (1.0, 2.0)
    assert parse(max_length=-5).max_length == -5


@pytest.mark.parametrize("value", [-1, "x", "nan", nan, [1], {"a": 1}, True, "1e", "0x10"])
def test_what_the_original_failed_on_is_refused_by_name(value: object) -> None:
    for name in ("top_p", "temperature"):
        assert refusal(**{name: value}).param == name


def test_an_infinite_number_is_a_large_one() -> None:
    assert parse(temperature=inf, max_length="inf").temperature == 2.0


@pytest.mark.parametrize("nothing", [None, "", [], 0])
def test_no_history_is_an_empty_one(nothing: object) -> None:
    assert parse(history=nothing).rounds == ()


def test_a_null_in_the_history_is_the_text_none_as_it_was() -> None:
    assert texts(history=[[None, "a"], ["b", None]]) == [["None", "a"], ["b", "None"]]


def test_a_missing_answer_is_empty_and_a_number_is_its_digits() -> None:
    assert texts(history=[["q"], [1, 2.5]]) == [["q", ""], ["1", "2.5"]]


def said(role: str, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


def test_messages_as_chatglm3_returns_them_are_rounds() -> None:
    """Those of ``chat()``: the system message of its tools, a call, its result and an answer."""
    asked = said("system", "s", tools=[{"name": "now"}])
    call = said("assistant", " ```python\ntool_call(zone='北京')\n```", metadata="now")
    history = [asked, said("user", "q"), call, said("observation", "九点"), said("assistant", "九点。", metadata="")]
    request = parse(prompt="p", history=[*history, said("user", "r"), said("assistant", "a")])
    called = ToolCall("call_2", "now", '{"zone": "北京"}')
    assert request.messages == (
        Message(Role.SYSTEM, "s"),
        Message(Role.USER, "q"),
        Message(Role.ASSISTANT, "", (called,)),
        Message(Role.TOOL, "九点", tool_call_id="call_2"),
        Message(Role.ASSISTANT, "九点。"),
        Message(Role.USER, "r"),
        Message(Role.ASSISTANT, "a"),
        Message(Role.USER, "p"),
    )
    given = prompt_params(request)
    truncation = given.truncation
    assert truncation is not None
    kept = (*given.messages[: truncation.fixed], *given.messages[truncation.starts[1] :])
    assert [message.content for message in kept] == ["s", "r", "a", "p"]
    assert given.messages[truncation.starts[-1] :] == given.messages[-1:], "the question itself always stays"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (said("assistant", "print(1)", metadata="interpreter"), "interpreter\nprint(1)"),
        (said("observation", "no call before"), "no call before"),
        (said("user", {"a": 1}), '{"a": 1}'),
        (said("user", 7), "7"),
    ],
)
def test_a_message_of_a_history_is_its_text(message: dict[str, object], text: str) -> None:
    (found, _) = parse(prompt="p", history=[message]).messages
    assert found.content == text


def test_a_call_that_was_taken_apart_is_one() -> None:
    content = {"name": "now", "parameters": {"zone": "北京"}}
    (found, _) = parse(prompt="p", history=[said("assistant", content, metadata="now")]).messages
    assert found.tool_calls == (ToolCall("call_0", "now", '{"zone": "北京"}'),)


@pytest.mark.parametrize(
    ("history", "param"),
    [
        ("hello", "history"),
        ({"a": "b"}, "history"),
        ([{"role": "user", "content": "a"}, ["b", "c"]], "history[1]"),
        ([{"role": "tool", "content": "a"}], "history[0]"),
        ([{"role": ["user"], "content": "a"}], "history[0]"),
        ([{"role": "user", "content": ["a"]}], "history[0].content"),
        (["question", "answer"], "history[0]"),
        ([["a", "b"], []], "history[1]"),
        ([["a", "b", "c"]], "history[0]"),
        ([None], "history[0]"),
        ([["a", {"b": "c"}]], "history[0][1]"),
        ([[["a"], "b"]], "history[0][0]"),
        ([[inf, "b"]], "history[0][0]"),
    ],
)
def test_a_history_of_another_shape_is_refused_by_its_path(history: object, param: str) -> None:
    assert refusal(history=history).param == param


@pytest.mark.parametrize("prompt", [None, 5, ["x"], {}, True])
def test_the_prompt_must_be_a_string(prompt: object) -> None:
    assert refusal(prompt=prompt).param == "prompt"


def test_the_prompt_must_be_there_but_may_be_empty() -> None:
    assert parse(prompt="").prompt == ""
    with pytest.raises(InvalidRequest, match="prompt must be a string"):
        parse_legacy_request({})


def test_unknown_keys_are_ignored() -> None:
    assert parse(sample_model_args={"x": 1}, endpoint_url="u") == parse()


def test_answers_are_stripped_and_the_training_date_filled_in() -> None:
    assert process_response("\n 我的知识截至[[训练时间]]。 \n") == "我的知识截至2023年。"
