"""The steps from a request to its generation, which all dialects share."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.anthropic.protocol import parse_messages_request
from glmserve.api.anthropic.protocol import to_params as messages_params
from glmserve.api.openai.chat_completions.protocol import parse_chat_request
from glmserve.api.openai.chat_completions.protocol import to_params as chat_params
from glmserve.api.openai.responses.request import new_items, parse_given
from glmserve.api.openai.responses.request import to_params as responses_params
from glmserve.chat.prompts.messages import Message, Role
from glmserve.engine.errors import PromptTooLong
from glmserve.engine.params import MAX_TOKENS, Grammar, GrammarKind, SamplingParams
from glmserve.generation.generate import GenerationRequest
from glmserve.generation.prepare import (
    AnswerParams,
    ChatParams,
    PromptParams,
    Truncation,
    encode_latest,
    encode_prompt,
    next_stride,
    prepare,
)
from glmserve.http.errors import InvalidRequest, TextTooLong
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.served_model import EncodedPrompt, ServedModel
from tests.support.api import served_model
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio
SHARED = {"temperature": 0.5, "top_k": 3}
SCHEMA = {"type": "object", "properties": {"weather": {"type": "string"}}}
CONTEXT = RequestContext()


async def started(context_length: int = 4096, prompt_format: str = "chatglm3") -> ServedModel:
    model = served_model(ScriptedEngine(context_length=context_length), prompt_format=prompt_format)
    await model.host.start()
    return model


async def of_chat(model: ServedModel, **body: object) -> GenerationRequest:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "你好"}]
    request = parse_chat_request({"messages": messages, **SHARED, **body})
    return await prepare(model, chat_params(request, model.card), CONTEXT)


async def of_messages(model: ServedModel, **body: object) -> GenerationRequest:
    messages = [{"role": "user", "content": "你好"}]
    request = parse_messages_request({"system": "s", "messages": messages, **SHARED, **body})
    return await prepare(model, messages_params(request, model.card), CONTEXT)


async def of_responses(model: ServedModel, **body: object) -> GenerationRequest:
    given = parse_given({"instructions": "s", "input": "你好", **SHARED, **body})
    params = responses_params(given.fields, new_items(given, None), None, model.card)
    return await prepare(model, params, CONTEXT)


async def test_one_question_is_one_request_in_every_dialect() -> None:
    model = await started()
    chat = await of_chat(model, max_tokens=9, stop=["x"])
    assert chat.stop == ("x",)
    assert chat == await of_messages(model, max_tokens=9, stop_sequences=["x"])
    assert chat == await of_responses(model, max_output_tokens=9, stop=["x"])


async def test_one_tool_and_one_format_make_one_grammar_in_every_dialect() -> None:
    model = await started()
    function = {"name": "now", "description": "d", "parameters": SCHEMA}
    wrapped = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    flat = {"type": "json_schema", "name": "n", "schema": SCHEMA}
    chat = await of_chat(
        model, max_tokens=9, tools=[{"type": "function", "function": function}], response_format=wrapped
    )
    messages = await of_messages(
        model,
        max_tokens=9,
        tools=[{"name": "now", "description": "d", "input_schema": SCHEMA}],
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    responses = await of_responses(
        model, max_output_tokens=9, tools=[{"type": "function", **function}], text={"format": flat}
    )
    assert chat.params.grammar is not None
    assert chat.tools is not None
    assert chat.tools.text_format is not None
    assert chat == messages == responses


PLAIN = AnswerParams(SamplingParams(MAX_TOKENS, min_tokens=5))


def asked(*messages: Message, truncation: Truncation | None = None, answer: AnswerParams = PLAIN) -> ChatParams:
    return ChatParams(PromptParams(messages, truncation=truncation), answer)


QUESTION = Message(Role.USER, "x")


async def limit(
    model: ServedModel, max_tokens: int | None = None, max_total_tokens: int | None = None
) -> tuple[int, int]:
    """Return the token limit of an answer, and the length of its prompt."""
    answer = replace(PLAIN, max_tokens=max_tokens, max_total_tokens=max_total_tokens)
    request = await prepare(model, asked(QUESTION, answer=answer), CONTEXT)
    assert request.params.min_tokens <= request.params.max_tokens
    return request.params.max_tokens, len(request.prompt_ids)


async def test_an_answer_is_as_long_as_asked_and_as_the_context_leaves() -> None:
    model = await started(100)
    room = 100 - (await limit(model))[1]
    assert (await limit(model, max_tokens=MAX_TOKENS))[0] == room
    assert (await limit(model))[0] == room, "the default is more than the context"
    assert (await limit(model, max_tokens=7))[0] == 7
    assert (await limit(model, max_tokens=2))[0] == 2, "min_tokens is cut to it"


async def test_a_limit_of_prompt_and_answer_leaves_a_token_at_least() -> None:
    model = await started(100)
    size = (await limit(model))[1]
    assert (await limit(model, max_total_tokens=size + 7))[0] == 7
    assert (await limit(model, max_total_tokens=size))[0] == 1
    assert (await limit(model, max_total_tokens=-5))[0] == 1
    assert (await limit(model, max_total_tokens=10**6))[0] == 100 - size


async def test_only_a_prompt_that_may_be_truncated_loses_its_oldest_rounds() -> None:
    model = await started(200)
    system = Message(Role.SYSTEM, "s")
    rounds = [message for _ in range(20) for message in (Message(Role.USER, "q" * 20), Message(Role.ASSISTANT, "a"))]
    messages = (system, *rounds, QUESTION)
    with pytest.raises(PromptTooLong):
        await prepare(model, asked(*messages), CONTEXT)
    truncation = Truncation(1, tuple(range(1, 42, 2)))
    prompt = await encode_prompt(model, PromptParams(messages, truncation=truncation), CONTEXT)
    start = truncation.starts[prompt.start]
    assert start > 1
    assert prompt.encoded == await model.encode((system, *messages[start:]), CONTEXT)
    request = await prepare(model, asked(*messages, truncation=truncation), CONTEXT)
    assert request.prompt_ids == prompt.encoded.ids


async def test_more_answers_than_the_model_gives_are_refused() -> None:
    model = await started()
    with pytest.raises(InvalidRequest, match="n must be at most") as caught:
        await prepare(model, asked(QUESTION, answer=replace(PLAIN, n=model.max_choices + 1)), CONTEXT)
    assert caught.value.param == "n"


async def test_a_request_has_its_own_grammar_before_that_of_its_task() -> None:
    model = await started()
    own = Grammar(GrammarKind.REGEX, "a")
    assert (await prepare(model, asked(QUESTION, answer=replace(PLAIN, grammar=own)), CONTEXT)).params.grammar == own
    assert (await prepare(model, asked(QUESTION), CONTEXT)).params.grammar is None


@pytest.mark.anyio
@pytest.mark.parametrize("last", [0, 1, 2, 5, 100])
async def test_a_question_that_never_fits_is_refused_and_no_part_beyond_it_is_asked_for(last: int) -> None:
    """A single prompt of a million characters was asked for without its only part, which was a 500."""
    asked: list[int] = []

    async def encode(first: int) -> EncodedPrompt:
        asked.append(first)
        raise TextTooLong(10**6, 4096)

    with pytest.raises(TextTooLong):
        await encode_latest(encode, last, 4096)
    assert max(asked) == last


@given(st.integers(1, 5000), st.integers(0, 3000))
def test_half_of_what_fits_is_kept_at_least(first: int, fitting: int) -> None:
    start = next_stride(first, fitting)
    assert first <= start <= first + fitting // 2


def test_while_as_much_fits_the_first_part_changes_seldom() -> None:
    starts = [next_stride(first, 20) for first in range(1, 33)]
    assert starts == [8] * 8 + [16] * 8 + [24] * 8 + [32] * 8
