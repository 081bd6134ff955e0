"""Text completions through the official client, and by the bytes that lm-eval sends."""

from collections import defaultdict
from collections.abc import Callable

import httpx
import pytest
from openai import AsyncOpenAI, AsyncStream, BadRequestError, RateLimitError
from openai.types import Completion

from glmserve.engine.errors import QueueFull
from tests.support.api import MODEL
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine, Submission

pytestmark = pytest.mark.anyio

PREFIX = (300, 301)
ENCODE: Callable[[str], tuple[int, ...]] = ByteTokenizer().encode


@pytest.fixture
def engine() -> ScriptedEngine:
    """Goes on after every prompt with the same text."""
    return ScriptedEngine(reply=lambda _: "好 的")


async def complete(openai: AsyncOpenAI, prompt: object, **fields: object) -> Completion:
    return await openai.completions.create(model=MODEL, prompt="", extra_body={"prompt": prompt, **fields})


async def streamed(openai: AsyncOpenAI, prompt: object, **fields: object) -> AsyncStream[Completion]:
    body = {"prompt": prompt, **fields}
    return await openai.completions.create(model=MODEL, prompt="", stream=True, extra_body=body)


async def refused(openai: AsyncOpenAI, prompt: object, **fields: object) -> str | None:
    with pytest.raises(BadRequestError) as caught:
        await complete(openai, prompt, **fields)
    return caught.value.param


async def test_a_text_is_gone_on_with_after_the_tokens_that_stand_before_every_text(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    reply = await complete(openai, "你[gMASK]")
    assert engine.submissions[0].prompt_ids == (*PREFIX, *ENCODE("你[gMASK]"))
    assert engine.submissions[0].params.max_tokens == 16
    assert reply.object == "text_completion"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].logprobs is None
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(engine.submissions[0].prompt_ids)


async def test_the_space_between_prompt_and_answer_is_kept(openai: AsyncOpenAI) -> None:
    assert (await complete(openai, "你")).choices[0].text == " 好 的"
    assert (await complete(openai, "")).choices[0].text == "好 的"


async def test_token_ids_are_taken_as_they_are(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    await complete(openai, [7, 301, 8])
    assert engine.submissions[0].prompt_ids == (7, 301, 8)


async def test_what_stands_before_a_text_can_be_left_out(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    await complete(openai, "a", add_special_tokens=False)
    assert engine.submissions[0].prompt_ids == ENCODE("a")


async def test_answers_to_several_prompts_come_in_their_order(engine: ScriptedEngine, openai: AsyncOpenAI) -> None:
    engine.reply = lambda submission: f"to {submission.prompt}"
    for prompts in (["a", "b"], [list(ENCODE("a")), list(ENCODE("b"))]):
        reply = await complete(openai, prompts, n=2)
        assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
        assert [choice.text for choice in reply.choices] == [" to a", " to a", " to b", " to b"]


async def test_a_stream_says_what_the_whole_answer_says(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda submission: f"to {submission.prompt}"
    options = {"n": 2, "echo": True, "logprobs": 1, "stream_options": {"include_usage": True}}
    whole = await complete(openai, ["a", "b"], **{**options, "stream_options": None})
    texts: dict[int, str] = defaultdict(str)
    tokens: dict[int, list[str]] = defaultdict(list)
    reasons: dict[int, str] = {}
    last = None
    async for last in await streamed(openai, ["a", "b"], **options):
        for part in last.choices:
            texts[part.index] += part.text
            tokens[part.index] += (part.logprobs and part.logprobs.tokens) or ()
            reasons[part.index] = part.finish_reason
    for choice in whole.choices:
        assert texts[choice.index] == choice.text
        assert choice.logprobs is not None
        assert tokens[choice.index] == choice.logprobs.tokens
        assert reasons[choice.index] == choice.finish_reason
    assert last is not None
    assert last.usage == whole.usage


async def test_no_answer_is_ahead_of_the_scores_of_its_prompt(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    """Answers that need not compute the prompt came before the one that scored it, and were echoed without scores."""
    engine.scoring_seconds = 0.02
    scored: dict[int, int] = {}
    async for chunk in await streamed(openai, "ab", n=3, echo=True, logprobs=0):
        for choice in chunk.choices:
            assert choice.logprobs is not None
            scored.setdefault(choice.index, len(choice.logprobs.tokens or ()))
    assert scored == dict.fromkeys(range(3), len(ENCODE("ab")))


async def test_echo_puts_the_prompt_in_front(openai: AsyncOpenAI) -> None:
    assert (await complete(openai, "你  ", echo=True)).choices[0].text == "你   好 的"
    assert (await complete(openai, list(ENCODE("你")), echo=True)).choices[0].text == "你 好 的"


async def test_log_probabilities_are_lists_side_by_side(openai: AsyncOpenAI) -> None:
    choice = (await complete(openai, "a", logprobs=2, echo=True)).choices[0]
    assert choice.text == "a 好 的"
    logprobs = choice.logprobs
    assert logprobs is not None
    bytes_of = {
        "好": [r"bytes:\xe5", r"bytes:\xa5", r"bytes:\xbd"],
        "的": [r"bytes:\xe7", r"bytes:\x9a", r"bytes:\x84"],
    }
    assert logprobs.tokens == ["", "a", " ", *bytes_of["好"], " ", *bytes_of["的"], "</s>"]
    assert logprobs.text_offset is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.token_logprobs)
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[1] == pytest.approx({"b": 1 - 1.0, "c": -1.0, "a": -1.0})
    assert choice.text[logprobs.text_offset[1]] == "a"


async def test_lm_eval_scores_a_continuation(http: httpx.AsyncClient) -> None:
    """The request and the arithmetic of lm-eval's local-completions."""
    prompts = [list(ENCODE("Q: 1+1= A: 2")), list(ENCODE("Q: 1+1= A: three"))]
    body = {"model": MODEL, "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}
    reply = (await http.post("/v1/completions", json={**body, "echo": True})).json()
    for choice, prompt in zip(reply["choices"], prompts, strict=True):
        length = len(prompt) - 3
        scores = choice["logprobs"]["token_logprobs"][length:-1]
        assert scores == [-token / 100 for token in prompt[length:]]
        tops = choice["logprobs"]["top_logprobs"][length:-1]
        assert [max(top.values()) for top in tops] == [score + 1 for score in scores]
        assert choice["logprobs"]["token_logprobs"][0] is None


async def test_a_prompt_is_scored_without_an_answer(openai: AsyncOpenAI) -> None:
    reply = await complete(openai, [[7, 8, 9]], max_tokens=0, echo=True, logprobs=1)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs == [None, -0.08, -0.09]
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 0
    assert await refused(openai, "a", max_tokens=0) == "max_tokens"


async def test_without_rivals_there_is_no_list_of_them(openai: AsyncOpenAI) -> None:
    logprobs = (await complete(openai, "a", logprobs=0)).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.top_logprobs is None
    assert logprobs.token_logprobs


@pytest.mark.parametrize(
    "prompt", [[], [[]], ["a", [1]] * 65, [1, "a"], [1.5], [True], {}, [512], [-1], ["a", None], "a" * 20_000]
)
async def test_bad_prompts_are_refused_by_name(openai: AsyncOpenAI, engine: ScriptedEngine, prompt: object) -> None:
    assert await refused(openai, prompt) == "prompt"
    assert engine.submissions == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("suffix", "x"), ("best_of", 2), ("logprobs", 21), ("logprobs", True), ("max_tokens", -2), ("messages", [1])],
)
async def test_unsupported_fields_are_refused_by_name(openai: AsyncOpenAI, name: str, value: object) -> None:
    assert await refused(openai, "a", **{name: value}) == name


async def test_more_answers_than_one_request_may_have_are_refused(openai: AsyncOpenAI) -> None:
    assert await refused(openai, ["a"] * 65, n=2) == "prompt"


async def test_a_full_queue_refuses_all_prompts_or_none(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reject, engine.reject_from = QueueFull(64), 2
    with pytest.raises(RateLimitError):
        await complete(openai, ["a", "b", "c"])
    assert len(engine.submissions) == 2
    assert engine.running == 0


def _stopped(submission: Submission) -> str:
    return "one\ntwo"


async def test_a_stop_string_ends_an_answer(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = _stopped
    choice = (await complete(openai, "a", stop="\n")).choices[0]
    assert (choice.text, choice.finish_reason) == (" one", "stop")
