"""Tools with a model that knows nothing, in the form of each family: what comes out is a call all the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import running_server
from tests.support.byte_pairs import byte_pairs, model_file
from tests.support.chatglm2_checkpoint import Shape, make_weights, small_tokenizer, write_checkpoint

SHAPE = Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=560)
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["北京", "上海"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "hourly": {"type": "boolean"},
        "place": {"type": "object", "properties": {"floor": {"enum": [1, 2]}}, "required": ["floor"]},
    },
    "required": ["city", "days", "place"],
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "天气", "parameters": PARAMETERS}}
VERDICT = {"type": "object", "properties": {"verdict": {"enum": ["good", "bad"]}}, "required": ["verdict"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "review", "schema": VERDICT}}


def glm4_tokenizer() -> bytes:
    return model_file(byte_pairs(440))


@pytest.mark.parametrize(
    ("family", "tokenizer"), [(FamilyName.CHATGLM3, small_tokenizer), (FamilyName.GLM4, glm4_tokenizer)]
)
def test_a_random_model_makes_valid_calls_in_its_own_form(
    family: FamilyName, tokenizer: Callable[[], bytes], tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, SHAPE, make_weights(SHAPE, 1), tokenizer=tokenizer(), dtype="F16")
    model = tmp_path / "m.gguf"
    convert_checkpoint(tmp_path, model, QuantType.F16, family=family)
    with running_server(str(model), log=tmp_path / "log") as (url, _):
        for seed in range(3):
            body = {
                "messages": [{"role": "user", "content": "q"}], "tools": [TOOL], "tool_choice": "required",
                "seed": seed, "temperature": 2, "max_tokens": 400,
            }  # fmt: skip
            reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
            assert reply["choices"][0]["finish_reason"] == "tool_calls", reply
            (call,) = reply["choices"][0]["message"]["tool_calls"]
            check_arguments(call)
        for seed in range(6):
            check_either(url, seed)


def check_arguments(call: dict[str, Any]) -> None:
    values = json.loads(call["function"]["arguments"])
    assert values["city"] in ("北京", "上海")
    assert values["days"] in range(1, 8)
    assert values["place"] in ({"floor": 1}, {"floor": 2})


def check_either(url: str, seed: int) -> None:
    """With a format beside the tools an answer is a call, or a text in the format."""
    body = {
        "messages": [{"role": "user", "content": "q"}], "tools": [TOOL], "response_format": FORMAT,
        "seed": seed, "temperature": 2, "max_tokens": 400,
    }  # fmt: skip
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    message = reply["choices"][0]["message"]
    if message["content"]:
        assert json.loads(message["content"])["verdict"] in ("good", "bad")
        assert "tool_calls" not in message
    else:
        check_arguments(message["tool_calls"][0])


@pytest.mark.parametrize("seed", range(6))
def test_a_family_without_a_form_of_its_own_makes_either(server_url: str, seed: int) -> None:
    check_either(server_url, seed)
