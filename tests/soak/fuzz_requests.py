"""Bodies that atheris makes up, through the whole application on a scripted engine: JSON, schema, translation, prompt.

    python -m tests.soak.fuzz_requests -runs=100000 -seed=1 -max_len=4096 CORPUS

An input is a line that says which address, and the body. It is a finding where the reply is a 5xx, or none comes.
"""

import asyncio
import json
import sys
from pathlib import Path
from random import Random

import atheris
from starlette.types import Message, Scope

with atheris.instrument_imports(include=["glmserve"]):
    from glmserve.bootstrap.app import ApiOptions, create_app
    from glmserve.chat.tasks.task import Task
    from tests.support.api import served_model
    from tests.support.scripted_engine import ScriptedEngine

from glmserve.api.anthropic.protocol import MessagesRequest
from glmserve.api.openai.chat_completions.protocol import ChatRequest
from glmserve.api.openai.completions.protocol import CompletionRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.model_pool.registry import ModelRegistry

SEEDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "n": 2}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
                              "stop": ["a"], "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 2, "seed": 1}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tool_choice": "required", "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
            "a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"enum": ["x"]}}}}}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1]}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "y"}], "response_format": {"type": "json_object"}}),
    ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 1, "echo": True, "logprobs": 1}),
    ("/v1/completions", {"prompt": "x", "suffix": "", "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/responses", {"input": [{"role": "user", "content": "x"}], "instructions": "y", "truncation": "auto"}),
    ("/v1/responses", {"prompt": {"id": "t", "variables": {"text": "x"}}, "text": {"format": {"type": "text"}}}),
    ("/v1/messages", {"model": "m", "max_tokens": 2, "system": "s", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "x"}]}], "tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
    ("/chatglm", {"prompt": "x", "history": [["a", "b"], [None, "c"]], "max_length": 20, "top_p": 0.7}),
    ("/tokenize", {"messages": [{"role": "user", "content": "x"}]}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
)  # fmt: skip
ADDRESSES = tuple(dict.fromkeys(path for path, _ in SEEDS))
NAMES = sorted(
    {name for kind in (ChatRequest, CompletionRequest, MessagesRequest, ResponsesRequest)
     for name in kind.known_fields()} | {"role", "content", "type", "text", "name", "id", "arguments", "function",
     "tool_calls", "tool_call_id", "call_id", "output", "history", "max_length", "$ref", "properties", "items", "enum"}
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, 0, -1, 1, 2**63, 10**30, 1.5, 1e308, "", "x", "\x00", "auto", "user", "assistant", "tool", "function",
    "text", "json_schema", "message", "function_call_output", [], {}, [[]], ["x"], [1], {"type": "object"}, {"x": {}},
)  # fmt: skip


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Change a body as JSON, where it is any; one in four as bytes."""
    random = Random(seed)
    try:
        body = json.loads(data[1:])
    except ValueError:
        return bytes(atheris.Mutate(data, most))
    if random.random() < 0.25 or not isinstance(body, dict):
        return bytes(atheris.Mutate(data, most))
    for _ in range(random.choice((1, 1, 2, 4))):
        _change(body, random)
    text = bytes([random.randrange(256) if random.random() < 0.1 else data[0]]) + json.dumps(body).encode()
    return text if len(text) <= most else data


def _change(body: dict[str, object], random: Random) -> None:
    places = _containers(body)
    place = random.choice(places)
    value = json.loads(json.dumps(random.choice((random.choice(VALUES), random.choice(places)))))
    if isinstance(place, list):
        if place and random.random() < 0.5:
            place[random.randrange(len(place))] = value
        else:
            place.insert(random.randrange(len(place) + 1), value)
    elif place and random.random() < 0.2:
        place.pop(random.choice(list(place)))
    else:
        place[random.choice([*place, random.choice(NAMES)])] = value


def _containers(value: object) -> list[list[object] | dict[str, object]]:
    if not isinstance(value, list | dict):
        return []
    inner = value if isinstance(value, list) else list(value.values())
    return [value, *(found for one in inner for found in _containers(one))]


def write_seeds(folder: Path) -> None:
    """Write what atheris begins with."""
    for index, (path, body) in enumerate(SEEDS):
        text = bytes([ADDRESSES.index(path)]) + json.dumps(body).encode()
        (folder / f"seed-{index}").write_bytes(text)


class Target:
    """The application, called without a server around it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = ScriptedEngine(per_step=100)
        options = ApiOptions(tasks={"t": Task("t", "读 {{text}} 好")})
        self._app = create_app(ModelRegistry([served_model(self._engine)]), options)
        self._life = self._app.router.lifespan_context(self._app)
        self._loop.run_until_complete(self._life.__aenter__())
        self._loop.run_until_complete(asyncio.sleep(0.1))

    def __call__(self, data: bytes) -> None:
        """Send one input. Raises AssertionError where it is a finding."""
        status = self._loop.run_until_complete(self._post(ADDRESSES[data[0] % len(ADDRESSES)], data[1:]))
        assert 200 <= status < 500, f"{status} for {data!r}"
        assert self._engine.running == 0
        self._engine.submissions.clear()

    async def _post(self, path: str, body: bytes) -> int:
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        status = 0

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(str(message["status"]))

        scope: Scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"host", b"x"), (b"content-length", str(len(body)).encode())],
            "scheme": "http", "server": ("x", 80), "client": ("x", 1), "root_path": "", "state": {},
        }  # fmt: skip
        await asyncio.wait_for(self._app(scope, receive, send), 20)
        return status


def main() -> None:
    """Run atheris until it has had its runs."""
    target = Target()
    atheris.Setup(sys.argv, lambda data: target(data) if data else None, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
