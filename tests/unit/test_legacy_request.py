"""Every odd way in which callers of the original filled in its five fields."""

from math import inf, nan

import pytest

from compat.chatglm import process_response
from compat.schemas import LegacyRequest, parse_legacy_request
from server.errors import InvalidRequest


def parse(**body: object) -> LegacyRequest:
    return parse_legacy_request({"prompt": "x", **body})


def refusal(**body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    return caught.value


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
    assert parse(history=nothing).turns == ()


def test_a_null_in_the_history_is_the_text_none_as_it_was() -> None:
    assert parse(history=[[None, "a"], ["b", None]]).turns == (("None", "a"), ("b", "None"))


def test_a_missing_answer_is_empty_and_a_number_is_its_digits() -> None:
    assert parse(history=[["q"], [1, 2.5]]).turns == (("q", ""), ("1", "2.5"))


@pytest.mark.parametrize(
    ("history", "param"),
    [
        ("hello", "history"),
        ({"a": "b"}, "history"),
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
