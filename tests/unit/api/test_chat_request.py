"""What a chat request may say, what it may not, and what it is told then."""

import pytest

from glmserve.api.common.field_policy import Rejected
from glmserve.api.openai.chat_completions.protocol import CHAT, ChatRequest, parse_chat_request, to_params
from glmserve.engine.params import SamplingParams
from glmserve.generation.prepare import prepare
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import IGNORED_FIELDS, RequestRecord, enter_request
from glmserve.model_pool.served_model import ServedModel
from tests.support.api import served_model
from tests.support.scripted_engine import ScriptedEngine

USER = {"role": "user", "content": "你好"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PROMPT_TOKENS = 34
CONTEXT = 4096


def parse(**body: object) -> ChatRequest:
    return parse_chat_request({"messages": [USER], **body})


def refusal(**body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    return caught.value


async def sampling(**body: object) -> SamplingParams:
    model = await started()
    return (await prepare(model, to_params(parse(**body), model.card), RequestContext())).params


async def started(engine: ScriptedEngine | None = None) -> ServedModel:
    model = served_model(engine or ScriptedEngine())
    await model.host.start()
    return model


@pytest.mark.parametrize("name", sorted(field.name for field in CHAT.ignored))
def test_harmless_fields_are_accepted_with_any_value(name: str) -> None:
    parse(**{name: {"anything": [1]}})


@pytest.mark.parametrize("field", CHAT.rejected, ids=lambda field: str(field.name))
def test_unsupported_fields_are_refused_by_name_unless_they_change_nothing(field: Rejected) -> None:
    for neutral in (None, *field.neutral):
        parse(**{field.name: neutral})
    error = refusal(**{field.name: "something"})
    assert error.param == field.name
    assert field.name in str(error)
    assert error.code == "unsupported_parameter"


def test_true_is_not_the_neutral_one() -> None:
    assert refusal(best_of=True).param == "best_of"


def test_an_unknown_field_is_left_out_and_where_set_so_refused_by_name_unless_null() -> None:
    record = RequestRecord()
    enter_request(record)
    parse(temprature=0.1, other=None)
    assert record.listed == {IGNORED_FIELDS: ["temprature"]}
    record.strict_fields = True
    assert refusal(temprature=0.1).param == "temprature"
    parse(temprature=None)
    enter_request(RequestRecord())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
    ],
)
def test_content_is_text_or_text_parts_or_null(content: object, text: str) -> None:
    assert parse(messages=[{"role": "user", "content": content}]).messages[0].content == text


def test_an_assistant_message_needs_no_content() -> None:
    assert parse(messages=[{"role": "assistant"}, USER]).messages[0].content == ""


def test_labels_on_a_message_are_accepted() -> None:
    parse(messages=[{**USER, "name": "Li", "type": "text", "tool_calls": None, "refusal": None}])


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ([], "messages"),
        (["hi"], "messages[0]"),
        ([{"content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([USER, {"role": "tool", "tool_call_id": "x"}], "messages[1].content"),
        ([USER, {"role": "function", "content": "x"}], "messages[1].name"),
        ([{**USER, "tool_calls": [CALL]}], "messages[0].tool_calls"),
        ([{"role": "king", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content"),
        ([{"role": "assistant", "tool_calls": [{}]}, USER], "messages[0].tool_calls[0].id"),
        ([{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, USER], "messages[0].tool_calls[0].type"),
    ],
)
def test_bad_messages_are_refused_by_their_path(messages: object, param: str) -> None:
    error = refusal(messages=messages)
    assert error.param == param
    assert param in str(error)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "temperature",
            [-0.1, 2.1, "2.1", "x", "", "nan", "inf", "1" * 5000, True, float("nan"), float("inf"), 10**400],
        ),
        ("top_p", [-0.1, 1.1, "1.1", True]),
        ("top_k", [-2, 2**31, 1.5, "1.5", "1_0", "9" * 5000, True]),
        ("min_p", [-0.1, 1.1]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [-2.1, 2.1]),
        ("repetition_penalty", [0, -1, 2.1]),
        ("max_tokens", [-2, 1.5, "five", True]),
        ("max_completion_tokens", [-2, "-2"]),
        ("min_tokens", [-1]),
        ("n", [0, -1, 1.5, True]),
        ("seed", ["x", 1.5, True]),
        ("stop", [5, [5], {}, ["x"] * 17, "x" * 1001]),
        ("stream", ["true", 1]),
        ("stream_options", ["x", []]),
        ("ignore_eos", [1]),
        ("model", [5, ["x"]]),
    ],
)
def test_values_of_a_wrong_type_or_out_of_range_are_refused_by_name(name: str, values: list[object]) -> None:
    for value in values:
        assert refusal(**{name: value}).param == name


@pytest.mark.anyio
async def test_what_is_absent_comes_from_the_model() -> None:
    assert await sampling() == SamplingParams(max_tokens=2048, temperature=0.8, top_p=0.8, top_k=50)


@pytest.mark.anyio
async def test_zero_is_a_value_and_not_a_default() -> None:
    params = await sampling(temperature=0, top_k=0, seed=0)
    assert (params.temperature, params.top_k, params.seed) == (0, 0, 0)


@pytest.mark.anyio
async def test_top_p_zero_keeps_only_the_likeliest_token() -> None:
    assert 0 < (await sampling(top_p=0)).top_p < 1e-3


@pytest.mark.anyio
async def test_top_k_minus_one_turns_it_off() -> None:
    assert (await sampling(top_k=-1)).top_k == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 2048),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 10**30}, CONTEXT - PROMPT_TOKENS),
        ({"min_tokens": 3000}, 3000),
    ],
)
async def test_the_answer_has_the_requested_length_within_the_context(body: dict[str, object], tokens: int) -> None:
    assert (await sampling(**body)).max_tokens == tokens


@pytest.mark.anyio
async def test_min_tokens_past_max_tokens_is_refused_but_cut_with_it_by_the_context() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens must be at most the 5 tokens"):
        await sampling(max_tokens=5, min_tokens=6)
    params = await sampling(min_tokens=10**6)
    assert params.min_tokens == params.max_tokens == CONTEXT - PROMPT_TOKENS


@pytest.mark.anyio
@pytest.mark.parametrize("seed", [0, 42, -1, 2**32 - 1, 2**63, -(2**63), 10**40])
async def test_any_integer_is_a_seed_but_never_the_one_that_means_random(seed: int) -> None:
    first, second = await sampling(seed=seed), await sampling(seed=seed)
    assert first.seed == second.seed
    assert first.seed is not None
    assert 0 <= first.seed < 2**32 - 1


@pytest.mark.anyio
async def test_stop_is_one_string_or_several_and_empty_ones_are_left_out() -> None:
    assert parse(stop="x").stop == ("x",)
    assert parse(stop=["x", "", "y"]).stop == ("x", "y")
    assert parse(stop=None).stop == parse(stop="").stop == ()


@pytest.mark.anyio
async def test_more_answers_than_run_and_wait_are_refused_with_the_bound() -> None:
    model = await started(ScriptedEngine(parallel=2))
    most = 2 + model.host.info.max_waiting
    assert (await prepare(model, to_params(parse(n=most), model.card), RequestContext())).n == most
    with pytest.raises(InvalidRequest, match=f"n must be at most {most}"):
        await prepare(model, to_params(parse(n=most + 1), model.card), RequestContext())
