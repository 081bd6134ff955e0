"""Tasks as models: what an unmodified client gets that asks for ``MODEL:TASK``."""

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponsePromptParam

from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.task import Task, TaskSampling, Variable, Words
from glmserve.engine.params import Grammar, GrammarKind
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.task_model import task_models
from tests.support.api import ALIAS, MODEL, served_model
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

REGEX = Grammar(GrammarKind.REGEX, "正面|负面")
TASKS = {
    "review": Task(
        "review",
        "评论：{{text}}\n类别：",
        Words("评论", "Review"),
        Words("正面或负面", "Good or bad"),
        {"text": Variable("text", Words("评论", "The review"), "不错")},
        TaskSampling(0.0, max_tokens=9),
        ("问",),
        REGEX,
    ),
    "said": Task("said", "{{text}}", grammar=Grammar(GrammarKind.LARK, "start: {{text}}", trusted=True)),
    "two": Task("two", "{{a}}和{{b}}"),
}
REVIEW = f"{MODEL}:review"
IN_SHORT: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "简短"},
    {"role": "user", "content": "差"},
]
STORED: ResponsePromptParam = {"id": "review", "variables": {"text": "好"}}


@pytest.fixture
def options() -> ApiOptions:
    return ApiOptions(tasks=TASKS)


async def ask(openai: AsyncOpenAI, *texts: str, model: str = REVIEW, **fields: object) -> str:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "assistant", "content": text} if at % 2 else {"role": "user", "content": text}
        for at, text in enumerate(texts)
    ]
    completion = await openai.chat.completions.create(model=model, messages=messages, extra_body=fields)
    assert completion.model == model
    return str(completion.choices[0].message.content)


def question(engine: ScriptedEngine) -> str:
    return engine.submissions[-1].prompt.removeprefix("[Round 1]\n\n问：").removesuffix("\n\n答：")


async def test_the_last_message_fills_the_slot_and_the_answer_is_constrained_to_the_task(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    assert await ask(openai, "很好{{text}}[gMASK]") == "你"  # the task stops at 问
    assert question(engine) == "评论：很好{{text}}[gMASK]\n类别："
    params = engine.submissions[-1].params
    assert (params.temperature, params.top_p, params.max_tokens, params.grammar) == (0.0, 0.8, 9, REGEX)


async def test_each_message_is_a_task_of_its_own_and_system_text_stands_in_front(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    await ask(openai, "好", "正面", "差")
    assert question(engine) == "评论：差\n类别："
    await openai.chat.completions.create(model=REVIEW, messages=IN_SHORT)
    assert question(engine) == "简短\n\n评论：差\n类别："


async def test_what_the_request_says_itself_counts(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    form = {"type": "json_object"}
    answer = await ask(openai, "好", temperature=0.7, max_tokens=50, stop="：", response_format=form)
    params = engine.submissions[-1].params
    assert (params.temperature, params.max_tokens) == (0.7, 50)
    assert params.grammar is not None
    assert params.grammar.kind is GrammarKind.JSON_SCHEMA
    assert answer == "你问的是"
    await ask(openai, "好", response_format={"type": "text"})
    assert engine.submissions[-1].params.grammar == REGEX


async def test_a_grammar_may_be_made_of_the_message(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    await ask(openai, '好" | "坏', model=f"{MODEL}:said")
    grammar = engine.submissions[-1].params.grammar
    assert grammar is not None
    assert grammar.source == r'start: "好\u0022\u0020\u007c\u0020\u0022坏"'


async def test_other_dialects_do_tasks_too(
    http: httpx.AsyncClient, engine: ScriptedEngine, openai: AsyncOpenAI
) -> None:
    body = {"model": REVIEW, "max_tokens": 50, "messages": [{"role": "user", "content": "好"}]}
    message = (await http.post("/v1/messages", json=body)).json()
    assert (message["model"], message["stop_reason"], message["stop_sequence"]) == (REVIEW, "stop_sequence", "问")
    response = await openai.responses.create(model=REVIEW, input="好")
    assert (response.model, response.output_text, response.temperature) == (REVIEW, "你", 0.0)
    for submission in engine.submissions:
        assert "问：评论：好\n类别：" in submission.prompt
        assert submission.params.grammar == REGEX


async def test_what_a_task_begins_with_is_pinned_from_its_first_use_on(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    assert engine.pins == []
    for _ in range(2):
        await ask(openai, "好")
        await openai.responses.create(prompt=STORED)
    (pin,) = engine.pins
    assert not pin.if_saved
    assert engine.submissions[0].prompt_ids[: len(pin.prompt_ids)] == pin.prompt_ids
    await ask(openai, "差")
    assert engine.submissions[-1].prompt_ids[: len(pin.prompt_ids)] == pin.prompt_ids


async def test_a_beginning_that_system_text_stands_in_front_of_is_not_pinned(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    await openai.chat.completions.create(model=REVIEW, messages=IN_SHORT)
    await openai.responses.create(prompt=STORED, instructions="简短")
    assert engine.pins == []


async def test_every_name_of_a_model_has_its_tasks(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    completion = await openai.chat.completions.create(
        model=f"{ALIAS}:review", messages=[{"role": "user", "content": "好"}]
    )
    assert completion.model == REVIEW
    with pytest.raises(NotFoundError, match=f"served here: {REVIEW}, {MODEL}:said, {MODEL}:two"):
        await ask(openai, "好", model=f"{MODEL}:other")


async def test_a_model_is_one_entry_and_its_tasks_are_listed_where_they_are_requested(openai: AsyncOpenAI) -> None:
    (model,) = [model async for model in openai.models.list()]
    assert model.id == MODEL
    assert model.model_extra is not None
    assert model.model_extra["task"] is None
    tasks = [task async for task in openai.models.list(extra_query={"kind": "task"})]
    both = [one.id async for one in openai.models.list(extra_query={"kind": "all"})]
    assert both == [MODEL, *(task.id for task in tasks)]
    assert [task.id for task in tasks] == [f"{MODEL}:{name}" for name in TASKS]
    extra = (await openai.models.retrieve(REVIEW)).model_extra
    assert extra is not None
    assert (extra["kind"], extra["parent"], extra["aliases"]) == ("task", MODEL, [f"{ALIAS}:review"])
    slot = {"name": "text", "description": {"zh": "评论", "en": "The review"}, "example": "不错", "default": None}
    assert extra["task"] == {
        "id": "review",
        "title": {"zh": "评论", "en": "Review"},
        "description": {"zh": "正面或负面", "en": "Good or bad"},
        "slots": [slot],
        "main_slot": "text",
    }


def test_the_tasks_of_the_default_model_come_first(engine: ScriptedEngine) -> None:
    models = [served_model(engine, "a", "x"), served_model(engine, "b", "y")]
    registry = ModelRegistry(models, "y", task_models(models, [TASKS["said"]]))
    assert [task.card.name for task in registry.tasks] == ["b:said", "a:said"]


@pytest.mark.parametrize(
    ("task", "fields", "told"),
    [
        ("two", {}, "needs the variable 'a'. Send its variables to /v1/responses"),
        ("review", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "has no tools"),
        ("review", {"messages": [{"role": "assistant", "content": "x"}]}, "the last message must have the role user"),
        (
            "review",
            {"messages": [{"role": "assistant", "content": "x"}], "continue_final_message": True},
            "begins its answer itself",
        ),
    ],
)
async def test_what_no_task_can_do_is_refused(
    openai: AsyncOpenAI, engine: ScriptedEngine, task: str, fields: dict[str, object], told: str
) -> None:
    with pytest.raises(BadRequestError, match=told):
        await ask(openai, "好", model=f"{MODEL}:{task}", **fields)
    assert engine.submissions == []


async def test_a_task_completes_no_text_and_takes_no_other_one(openai: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="is a task and takes messages, not text; served models that do"):
        await openai.completions.create(model=REVIEW, prompt="好")
    with pytest.raises(BadRequestError, match="is a task, so it accepts no stored prompt"):
        await openai.responses.create(model=REVIEW, prompt={"id": "two", "variables": {"a": "1", "b": "2"}})
