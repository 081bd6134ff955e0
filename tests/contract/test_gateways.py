"""What gateways before several servers add to requests and ask for: smg, vllm-router."""

from collections.abc import AsyncIterator

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hi"}]
SMG_RESPONSES = {
    "store": True, "temperature": 1.0, "priority": 0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
}  # fmt: skip
ROUTER = {
    "no_stop_trim": False, "ignore_eos": False, "skip_special_tokens": True, "continue_final_message": False,
    "separate_reasoning": True, "stream_reasoning": True, "return_hidden_states": False, "include_reasoning": True,
    "logprobs": False, "stream": False,
}  # fmt: skip
SENT = [
    ("/v1/chat/completions", {"messages": MESSAGES, "logprobs": False, "stream": False}),
    ("/v1/completions", {"prompt": "hi", "echo": False, "stream": False}),
    ("/v1/responses", {"input": "hi", **SMG_RESPONSES}),
    ("/v1/chat/completions", {"messages": MESSAGES, **ROUTER}),
    ("/tokenize", {"continue_final_message": False, "messages": MESSAGES}),
    (
        "/v1/completions",
        {"prompt": "hi", "stream": False, "echo": False, "no_stop_trim": False, "ignore_eos": False,
         "skip_special_tokens": True, "return_hidden_states": False},
    ),
]  # fmt: skip
"""Bodies as smg 1.13.0 and vllm-router 0.1.17 send them, for one with the needed fields."""


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def strict(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(make_app(engine, ApiOptions(strict_fields=True))) as http:
        yield http


@pytest.mark.parametrize(("path", "body"), SENT)
async def test_their_fields_are_accepted_even_where_unknown_ones_are_not(
    strict: httpx.AsyncClient, path: str, body: dict[str, object]
) -> None:
    answer = await strict.post(path, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("sent", "temperature", "top_k"),
    [
        ({}, 0.8, 50),
        ({**SMG_RESPONSES}, 0.8, 50),
        ({**SMG_RESPONSES, "temperature": 0.3}, 0.3, 50),
        ({**SMG_RESPONSES, "top_k": 7}, 0.8, 7),
        ({"temperature": 1.0}, 1.0, 50),
        ({"temperature": 1.0, "top_k": -1, "min_p": 0, "repetition_penalty": 1}, 1.0, 0),
    ],
)
async def test_fillers_do_not_override_the_models_defaults(
    strict: httpx.AsyncClient, engine: ScriptedEngine, sent: dict[str, object], temperature: float, top_k: int
) -> None:
    answer = await strict.post("/v1/responses", json={"input": "hi", **sent})
    params = engine.submissions[0].params
    assert (params.temperature, params.top_k) == (temperature, top_k)
    assert answer.json()["temperature"] == temperature


async def test_the_load_of_each_engine(strict: httpx.AsyncClient) -> None:
    for path in ("/v1/loads?include=core,disagg,queues,memory", f"/loads?model={MODEL}"):
        loads = (await strict.get(path)).json()
        (one,) = loads["loads"]
        assert one["model"] == MODEL
        assert (one["num_running_reqs"], one["num_waiting_reqs"], one["num_used_tokens"]) == (0, 0, 0)
        assert one["max_running_requests"] > 0
        assert one["max_total_num_tokens"] > 0
        assert loads["aggregate"]["total_reqs"] == 0


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info", "/model_info", "/get_model_info"])
async def test_facts_about_the_server(strict: httpx.AsyncClient, path: str) -> None:
    facts = (await strict.get(path)).json()
    assert (facts["served_model_name"], facts["is_generation"]) == (MODEL, True)


async def test_version_and_health(strict: httpx.AsyncClient) -> None:
    assert (await strict.get("/version")).json()["version"]
    assert (await strict.get("/health_generate")).json() == (await strict.get("/health")).json()
