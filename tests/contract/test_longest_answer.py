"""No answer is longer than its model's table allows, whatever dialect asks and however it asks."""

import httpx
import pytest

from glmserve.bootstrap.app import create_app
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.api import connect
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hi"}]


async def ask(engine: ScriptedEngine, path: str, body: dict[str, object]) -> httpx.Response:
    card = ModelCard("short", 1_700_000_000, prompt_format="chatglm2", max_output_tokens=5)
    async with connect(create_app(ModelRegistry([ServedModel(card, ModelHost(engine, ByteTokenizer))]))) as http:
        return await http.post(path, json=body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 100, "min_tokens": 50, "n": 2}),
        ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 100}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 100}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 100}),
        ("/chatglm", {"prompt": "hi", "max_length": 1000}),
        ("/", {"prompt": "hi"}),
    ],
)
async def test_every_dialect_keeps_to_it(engine: ScriptedEngine, path: str, body: dict[str, object]) -> None:
    assert (await ask(engine, path, body)).status_code == 200
    assert {submission.params.max_tokens for submission in engine.submissions} == {5}


async def test_an_answer_that_the_table_ends_did_not_fill_the_context(engine: ScriptedEngine) -> None:
    """It was reported as one, on which Anthropic's clients shorten their conversation."""
    reply = await ask(engine, "/v1/messages", {"messages": MESSAGES, "max_tokens": 100})
    assert reply.json()["stop_reason"] == "max_tokens"
