"""Numbers in quotation marks, lengths that say nothing, choices in another dialect's words: as they are meant."""

import pytest

from glmserve.api.anthropic.protocol import parse_messages_request
from glmserve.api.common.tools import to_tool_config
from glmserve.api.openai.chat_completions.protocol import parse_chat_request, to_params
from glmserve.api.openai.completions.protocol import parse_completion_request, to_jobs
from glmserve.api.openai.responses.protocol import parse_responses_request
from glmserve.api.openai.responses.tools import to_tool_config as responses_offer
from glmserve.chat.tools.types import ToolChoice
from glmserve.generation.generate import GenerationRequest
from glmserve.generation.prepare import prepare
from glmserve.http.request_context import RequestContext
from tests.support.api import served_model
from tests.support.scripted_engine import ScriptedEngine
from tests.unit.api.test_tool_request import NOW, USER, WEATHER, generation

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", " 1 ", 1.0),
        ("top_p", "1e-1", 0.1),
        ("top_k", "40", 40),
        ("top_k", 40.0, 40),
        ("seed", "12", 12),
        ("n", "2", 2),
        ("n", 2.0, 2),
        ("max_tokens", "16", 16),
        ("max_tokens", 16.0, 16),
        ("max_tokens", "16.0", 16),
        ("max_completion_tokens", "16", 16),
        ("presence_penalty", "-2", -2.0),
        ("min_tokens", "0", 0),
    ],
)
def test_the_text_of_a_number_is_that_number(field: str, sent: object, read: float) -> None:
    assert getattr(parse_chat_request({"messages": [USER], field: sent}), field) == read


def test_other_dialects_read_numbers_so_too() -> None:
    message = parse_messages_request({"messages": [USER], "max_tokens": "7", "temperature": "0.5", "top_k": 3.0})
    assert (message.max_tokens, message.temperature, message.top_k) == (7, 0.5, 3)
    response = parse_responses_request({"input": "x", "max_output_tokens": "7", "top_logprobs": "2"})
    assert (response.max_output_tokens, response.top_logprobs) == (7, 2)
    completion = parse_completion_request({"prompt": "x", "max_tokens": 7.0, "logprobs": "1"})
    assert (completion.max_tokens, completion.logprobs) == (7, 1)
    assert parse_chat_request({"messages": [USER], "logit_bias": {"5": "-100"}}).logit_bias == ((5, -100.0),)


async def room(**body: object) -> int:
    """How long an answer may get whose prompt and answer have 8192 tokens together, as a share of what is left."""
    model = served_model(ScriptedEngine(context_length=8192))
    await model.host.start()
    parsed = parse_chat_request({"messages": [USER], **body})
    found: GenerationRequest = await prepare(model, to_params(parsed, model.card), RequestContext())
    return 8192 - len(found.prompt_ids) - found.params.max_tokens


async def test_minus_one_is_what_the_context_leaves_and_zero_says_nothing() -> None:
    default = (await generation()).params.max_tokens
    for field in ("max_tokens", "max_completion_tokens"):
        assert await room(**{field: -1}) == 0
        assert (await generation(**{field: 0})).params.max_tokens == default
    assert (await generation(max_tokens=9, max_completion_tokens=0)).params.max_tokens == 9
    assert await room(max_tokens=-1, min_tokens=5) == 0


async def test_a_completion_may_have_all_of_the_room() -> None:
    model = served_model(ScriptedEngine(context_length=100))
    await model.host.start()
    (ask,) = await to_jobs(parse_completion_request({"prompt": "abc", "max_tokens": -1}), model, RequestContext())
    assert ask.request.params.max_tokens == 100 - len(ask.request.prompt_ids)


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_message_may_have_all_of_the_room(limit: int) -> None:
    assert parse_messages_request({"messages": [USER], "max_tokens": limit}).max_tokens >= 2**31


@pytest.mark.parametrize("choice", ["any", "required", {"type": "any"}, {"type": "required"}])
def test_any_call_is_a_required_one(choice: object) -> None:
    chat = to_tool_config(parse_chat_request({"messages": [USER], "tools": [NOW], "tool_choice": choice}))
    flat = {"type": "function", "name": "now"}
    response = responses_offer(parse_responses_request({"input": "x", "tools": [flat], "tool_choice": choice}))
    for found in (chat, response):
        assert found is not None
        assert found.choice is ToolChoice.REQUIRED


@pytest.mark.parametrize(("choice", "mode"), [("auto", "auto"), ("any", "any"), ("required", "any"), ("none", "none")])
def test_a_message_may_name_its_choice_by_a_word(choice: str, mode: str) -> None:
    found = parse_messages_request({"messages": [USER], "max_tokens": 1, "tool_choice": choice}).tool_choice
    assert found is not None
    assert found.type == mode


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "now"}},
        {"type": "function", "name": "now"},
        {"type": "tool", "name": "now"},
    ],
)
def test_a_tool_is_named_in_whatever_dialect(choice: object) -> None:
    chat = to_tool_config(parse_chat_request({"messages": [USER], "tools": [NOW, WEATHER], "tool_choice": choice}))
    assert chat is not None
    assert [tool.name for tool in chat.callable] == ["now"]
    if choice != {"type": "tool", "name": "now"}:
        flat = [{"type": "function", "name": name} for name in ("now", "later")]
        response = responses_offer(parse_responses_request({"input": "x", "tools": flat, "tool_choice": choice}))
        assert response is not None
        assert [tool.name for tool in response.callable] == ["now"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "refusal", "refusal": "不行"}]}, "不行"),
        ({"content": None, "refusal": "不行"}, "不行"),
        ({"content": "好", "refusal": None}, "好"),
        ({"content": [{"type": "output_text", "text": "好"}]}, "好"),
    ],
)
async def test_what_a_model_refused_is_what_it_said(message: dict[str, object], text: str) -> None:
    request = await generation(messages=[USER, {"role": "assistant", **message}, USER])
    assert f"答：{text}\n\n[Round 2]" in bytes(i - 3 for i in request.prompt_ids if 3 <= i < 259).decode()


@pytest.mark.parametrize(
    ("arguments", "told"), [({"zone": "北京"}, '{"zone": "北京"}'), ('{"a": 1}', '{"a": 1}'), (None, "{}"), ("", "{}")]
)
async def test_the_arguments_of_an_earlier_call_may_be_an_object(arguments: object, told: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": arguments}}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]
    request = await generation(messages=messages)
    assert f"参数：{told}\n" in bytes(i - 3 for i in request.prompt_ids if 3 <= i < 259).decode()
