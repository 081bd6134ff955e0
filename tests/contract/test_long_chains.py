"""Responses that go on from one another for ever: what each costs depends on the context, not on their number."""

import httpx
import pytest

from glmserve.api.openai.responses.conversation import Item
from glmserve.api.openai.responses.router import ResponseJob, ResponsesService
from glmserve.api.openai.responses.stream import ResponseWriter
from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.task import Task
from tests.support.api import MODEL
from tests.support.response_events import URL, check_order, create, events
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

TASKS = {"review": Task("review", "评论：{{text}}")}
MOST_ITEMS = 40
"""Of about 60 characters each, in a context of 512 tokens of up to 4 characters."""


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(context_length=512)


@pytest.fixture
def options() -> ApiOptions:
    return ApiOptions(tasks=TASKS)


async def made_from(http: httpx.AsyncClient, response_id: str) -> int:
    """Return how many items a response was made from."""
    count = 0
    after: dict[str, str] = {}
    while True:
        page = (await http.get(f"{URL}/{response_id}/input_items", params={"limit": "100", **after})).json()
        count += len(page["data"])
        if not page["has_more"]:
            return count
        after = {"after": page["last_id"]}


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}:review"])
async def test_a_chain_is_cut_to_what_the_context_holds(
    http: httpx.AsyncClient, engine: ScriptedEngine, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain with truncation outgrew the context for ever: a request of 110 bytes took 2.8 s."""
    sizes = []
    real = ResponsesService._keep

    def keep(self: ResponsesService, job: ResponseJob, items: tuple[Item, ...], writer: ResponseWriter) -> None:
        sizes.append(len(job.items))
        real(self, job, items, writer)

    monkeypatch.setattr(ResponsesService, "_keep", keep)
    last = None
    for number in range(60):
        given = {"model": model, "input": f"{number:04}" + "x" * 60, "previous_response_id": last}
        fields = {**given, "truncation": "auto"}
        last = str((check_order(await events(http, **fields)) if number % 2 else await create(http, **fields))["id"])
    assert max(sizes) <= MOST_ITEMS
    assert last is not None
    assert await made_from(http, last) <= MOST_ITEMS
    assert "0059" in engine.submissions[-1].prompt
    assert all(len(one.prompt_ids) < 512 for one in engine.submissions)


async def test_a_chain_goes_on_with_the_latest(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    last = None
    for number in range(40):
        body = {"input": f"{number:04}" + "x" * 60, "previous_response_id": last, "truncation": "auto"}
        last = (await create(http, **body))["id"]
    assert "0038" in engine.submissions[-1].prompt
    assert "0039" in engine.submissions[-1].prompt


async def test_more_items_than_tokens_are_reported_without_a_look_at_them(http: httpx.AsyncClient) -> None:
    reply = await http.post(URL, json={"input": [{"role": "user", "content": ""}] * 513})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
