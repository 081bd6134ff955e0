"""Every field that /openapi.json offers is sent to every endpoint: the parser treats it as the page says."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from glmserve.api.common.fields import SamplingFields
from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.chat.tasks.task import Task
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel, ModelCard, RerankModel
from glmserve.model_pool.task_model import task_models
from tests.support.api import MODEL, NOW, connect, served_model
from tests.support.schema_values import values_of
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

Body = dict[str, Any]

HEADER = "x-glmserve-ignored-fields"
VECTORS, SCORES = "vectors", "scores"
SAID = [{"role": "user", "content": "你好"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
OWN_TOOL = {"name": "f", "input_schema": {"type": "object"}}
FUNCTION = TOOL["function"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

BASES: Mapping[str, Body] = {
    "ChatRequest": {"messages": SAID},
    "TokenizeChat": {"messages": SAID},
    "TokenizeText": {},
    "DetokenizeRequest": {"tokens": [5]},
    "JudgeRequest": {"answers": []},
    "CompletionRequest": {"prompt": "你好"},
    "EmbeddingRequest": {"input": "你好"},
    "RerankRequest": {"query": "你好", "documents": ["a", "b"]},
    "ScoreRequest": {"text_1": "你好", "text_2": ["a", "b"]},
    "ResponsesRequest": {"input": "你好"},
    "MessagesRequest": {"messages": SAID, "max_tokens": 50},
    "PromptRequest": {"messages": SAID},
    "LegacyBody": {"prompt": "你好"},
}
"""A body of each model, which each field is added to."""

CHOICES = ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}]
FLAT_CHOICES = ["none", "auto", "required", {"type": "function", "name": "f"}]
OWN_CHOICES = [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "f"}, {"type": "none"}]
FORMATS = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
]
CONSTRAINTS = [{"json": SCHEMA}, {"regex": "a+"}, {"choice": ["a"]}, {"grammar": 'start: "a"'}, {"json_object": True}]
FLAT_FORMATS = [{}, {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}, {"verbosity": "low"}]
CHAT: dict[str, list[Body]] = {
    "model": [{"model": MODEL}],
    "messages": [{"messages": SAID}],
    "tools": [{"tools": [TOOL]}, {"tools": []}],
    "tool_choice": [{"tools": [TOOL], "tool_choice": choice} for choice in CHOICES],
    "functions": [{"functions": [FUNCTION]}],
    "function_call": [{"functions": [FUNCTION], "function_call": choice} for choice in ("none", "auto", {"name": "f"})],
    "top_logprobs": [{"logprobs": True, "top_logprobs": count} for count in (0, 20)],
    "continue_final_message": [{"messages": [*SAID, {"role": "assistant", "content": "a"}],
                                "continue_final_message": True}],
    "add_generation_prompt": [{"add_generation_prompt": True},
                              {"messages": [*SAID, {"role": "assistant", "content": "a"}],
                               "continue_final_message": True, "add_generation_prompt": False}],
    "response_format": [{"response_format": one} for one in FORMATS],
    "structured_outputs": [{"structured_outputs": one} for one in CONSTRAINTS],
    "guided_json": [{"guided_json": SCHEMA}, {"guided_json": '{"type": "object"}'}],
    "guided_grammar": [{"guided_grammar": 'start: "a"'}],
}  # fmt: skip
COMPLETION = {name: CHAT[name] for name in ("model", "response_format", "structured_outputs", "guided_json",
                                            "guided_grammar")}  # fmt: skip
COUNTED: dict[str, list[Body]] = {
    "model": [{"model": MODEL}],
    "messages": [{"messages": SAID}],
    "tools": [{"tools": [OWN_TOOL]}],
    "tool_choice": [{"tools": [OWN_TOOL], "tool_choice": choice} for choice in OWN_CHOICES],
    "output_config": [{"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}],
    "system": [{"system": "s"}, {"system": [{"type": "text", "text": "s"}]}],
    "thread": [{"thread": {"type": "create"}}],
}
BODIES: Mapping[str, Mapping[str, list[Body]]] = {
    "ChatRequest": CHAT,
    "TokenizeChat": CHAT,
    "TokenizeText": {
        "model": [{"prompt": "a", "model": MODEL}],
        "prompt": [{"prompt": "a"}],
        "content": [{"content": "a"}],
        **{name: [{"prompt": "a", name: value} for value in (True, False)]
           for name in ("add_special_tokens", "add_special", "return_token_strs")},
    },
    "DetokenizeRequest": {"model": [{"model": MODEL}]},
    "CompletionRequest": {**COMPLETION, "max_tokens": [{"max_tokens": -1}, {"max_tokens": 0, "echo": True}]},
    "EmbeddingRequest": {"model": [{"model": VECTORS}]},
    "RerankRequest": {"model": [{"model": SCORES}], "query": [{"query": {"text": "q"}}],
                      "documents": [{"documents": ["a", {"text": "b"}]}]},
    "ScoreRequest": {"model": [{"model": SCORES}], "text_1": [{"text_1": ["a", "b"]}],
                     "text_2": [{"text_2": ["a"]}, {"text_2": "a"}]},
    "ResponsesRequest": {
        "model": [{"model": MODEL}],
        "input": [{"input": "a"}, {"input": SAID}],
        "prompt": [{"prompt": {"id": "t", "variables": {"text": "a"}}}],
        "previous_response_id": [{"previous_response_id": "{stored}"}],
        "tools": [{"tools": [FLAT_TOOL]}],
        "tool_choice": [{"tools": [FLAT_TOOL], "tool_choice": choice} for choice in FLAT_CHOICES],
        "text": [{"text": one} for one in FLAT_FORMATS],
    },
    "MessagesRequest": COUNTED,
    "PromptRequest": COUNTED,
    "JudgeRequest": {"answers": [{"answers": []}]},
    "LegacyBody": {"history": [{"history": [["a", "b"]]}, {"history": [*SAID, {"role": "assistant", "content": "b"}]}]},
}  # fmt: skip
"""Fields whose valid values depend on another field or on the server, with the values to send."""


def app_of(engine: ScriptedEngine, *, strict: bool = False) -> FastAPI:
    answering = served_model(engine)
    embedder = EmbeddingModel(ModelCard(VECTORS, 0), ModelHost(ScriptedEngine(), ByteTokenizer))
    baichuan = served_model(ScriptedEngine(), "baichuan-tiny", "baichuan", "baichuan")
    tasks = {"t": Task("t", "读 {{text}} 好")}
    reranker = RerankModel(ModelCard(SCORES, 0), ModelHost(ScriptedEngine(ranks=True), ByteTokenizer))
    registry = ModelRegistry([answering, embedder, reranker, baichuan], tasks=task_models([answering], tasks.values()))
    return create_app(registry, ApiOptions(tasks=tasks, strict_fields=strict), clock=lambda: NOW)


PAGE: Any = app_of(ScriptedEngine()).openapi()
SCHEMAS = PAGE["components"]["schemas"]


def models_of(path: str) -> list[str]:
    schema = PAGE["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return [part["$ref"].rpartition("/")[2] for part in schema.get("anyOf", [schema])]


ENDPOINTS = [
    (path.replace("{task_id}", "t"), model)
    for path, ways in PAGE["paths"].items() if "requestBody" in ways.get("post", {})
    for model in models_of(path)
]  # fmt: skip


def fields(model: str) -> Iterator[tuple[str, str, Body]]:
    """Yield the name of each field, what becomes of it, and its schema."""
    for name, schema in SCHEMAS[model]["properties"].items():
        said = schema.get("description", "")
        assert said, f"{model}.{name} has no description"
        kinds = {"Accepted without effect.": "ignored", "Not supported.": "rejected"}
        yield name, next((kind for start, kind in kinds.items() if said.startswith(start)), "supported"), schema


@pytest.fixture
async def http(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that refuses unknown fields, with a model of each kind and a stored prompt."""
    async with connect(app_of(engine, strict=True)) as client:
        yield client


async def stored(http: httpx.AsyncClient, body: Body) -> Body:
    if body.get("previous_response_id") != "{stored}":
        return body
    return {**body, "previous_response_id": (await http.post("/v1/responses", json={"input": "a"})).json()["id"]}


def test_every_endpoint_with_a_body_is_walked() -> None:
    assert {model for _, model in ENDPOINTS} == set(BASES)


@pytest.mark.parametrize(("path", "model"), ENDPOINTS)
async def test_every_supported_field_takes_the_values_that_the_page_offers(
    http: httpx.AsyncClient, path: str, model: str
) -> None:
    faults = []
    for name, kind, schema in fields(model):
        offered = ({name: value} for value in values_of(schema, SCHEMAS))
        for body in BODIES[model].get(name, offered) if kind == "supported" else ():
            reply = await http.post(path, json=await stored(http, {**BASES[model], **body}))
            if reply.status_code != 200 or HEADER in reply.headers:
                faults.append((body, reply.status_code, reply.headers.get(HEADER), reply.text[:300]))
    assert faults == []


@pytest.mark.parametrize(("path", "model"), ENDPOINTS)
async def test_every_ignored_field_takes_any_value(http: httpx.AsyncClient, path: str, model: str) -> None:
    base = {"prompt": "a"} if model == "TokenizeText" else BASES[model]
    for name in (name for name, kind, _ in fields(model) if kind == "ignored"):
        for value in ("something", {"anything": [1]}):
            reply = await http.post(path, json={**base, name: value})
            assert (reply.status_code, HEADER in reply.headers) == (200, False), (name, reply.text)


@pytest.mark.parametrize(("path", "model"), ENDPOINTS)
async def test_every_rejected_field_takes_its_neutral_values_alone(
    http: httpx.AsyncClient, path: str, model: str
) -> None:
    base = {"prompt": "a"} if model == "TokenizeText" else BASES[model]
    for name, kind, schema in fields(model):
        for value in schema["anyOf"][0]["enum"] if kind == "rejected" else ():
            reply = await http.post(path, json={**base, name: value})
            assert (reply.status_code, HEADER in reply.headers) == (200, False), (name, value, reply.text)
        if kind == "rejected":
            reply = await http.post(path, json={**base, name: "something"})
            assert reply.status_code == 400
            assert f"{name} is not supported by this server" in reply.text


SAMPLING: Mapping[str, tuple[object, object]] = {
    "temperature": (0.25, 0.25),
    "top_p": (0.25, 0.25),
    "top_k": (7, 7),
    "min_p": (0.25, 0.25),
    "presence_penalty": (0.5, 0.5),
    "frequency_penalty": (0.5, 0.5),
    "repetition_penalty": (1.5, 1.5),
    "min_tokens": (3, 3),
    "ignore_eos": (True, True),
    "seed": (11, 11),
    "logit_bias": ({"5": 2}, ((5, 2.0),)),
}
"""Fields of ``SamplingParams`` with a value of the request, and the same for the engine; ``stop`` is not among them."""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_every_sampling_field_reaches_the_engine(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    assert set(SAMPLING) == set(SamplingFields.model_fields) - {"stop"}
    (model,) = models_of(path)
    for name, (sent, read) in SAMPLING.items():
        assert (await http.post(path, json={**BASES[model], name: sent})).status_code == 200
        assert getattr(engine.submissions[-1].params, name) == read, name
