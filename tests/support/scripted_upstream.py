"""A server with vLLM's wire format whose replies are a script: whole, in pieces, or cut off."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader
from types import TracebackType
from typing import Any

from fastapi import FastAPI

from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.chat.tasks.task import Task, TaskSampling
from glmserve.engine.params import MAX_TOKENS
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, NamedModel
from glmserve.model_pool.task_model import task_models
from glmserve.model_pool.upstream_model import UpstreamModel
from glmserve.upstream.chat import UNSET
from glmserve.upstream.connection import Place
from glmserve.upstream.engine import Upstream

NAME, THERE = "glm-big", "zai-org/GLM-4.5"
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "你好"}]}
TASK = Task("shout", "大声说：{{text}}", sampling=TaskSampling(temperature=0.25, max_tokens=7), stop=("。",))
KEY = "sk-of-the-upstream"
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 8}}
HEAD = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1, "model": THERE}


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Callable[[Asked], Iterable[bytes]]


def reply(value: object, status: int = 200, headers: str = "", kind: str = "application/json") -> list[bytes]:
    """Return a whole reply with a JSON body, or with bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return [head.encode() + data]


def stream_head(length: str = "Transfer-Encoding: chunked") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n{length}\r\n\r\n".encode()


def framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(value: Mapping[str, object] | str) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def chunk(finish: str | None = None, index: int = 0, **delta: object) -> dict[str, object]:
    """Return a chunk of vLLM's, which has the usage as null where it is asked for."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**HEAD, "choices": [choice], "usage": None}


LAST = {**HEAD, "choices": [], "usage": USAGE}


def stream(*events: Mapping[str, object], end: bool = True) -> list[bytes]:
    """Return a whole stream of chunks, with the counts at its end."""
    parts = [event(one) for one in events]
    parts += [event(LAST), event("[DONE]")] if end else []
    return [stream_head(), *map(framed, parts), b"0\r\n\r\n"]


def says(*texts: str, finish: str = "stop") -> list[bytes]:
    """Return the stream of an answer."""
    return stream(chunk(role="assistant", content=""), *(chunk(content=one) for one in texts), chunk(finish))


def whole(**message: object) -> dict[str, object]:
    """Return a reply that is not streamed."""
    said = {"role": "assistant", "content": "你好", **message}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def fails(message: str, status: int, **fields: object) -> dict[str, object]:
    """Return vLLM's error envelope, whose code is the status."""
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status, **fields}}


@dataclass
class ScriptedUpstream:
    """Answers on a loopback port as ``script`` says; ``GET /v1/models`` lists the model."""

    script: Script = lambda asked: says("好")
    lists_models: bool = True
    state: str | None = None
    """What another glmserve would tell of its model."""
    asked: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """A caller hung up before its reply was complete."""
    written: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> "ScriptedUpstream":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Be gone: new connections are refused."""
        for one in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def requests(self) -> list[Asked]:
        """All but the questions for the list of models."""
        return [one for one in self.asked if one.method == "POST"]

    def model(
        self, *, aliases: tuple[str, ...] = (), max_output_tokens: int = 0, timeout: float = 20.0
    ) -> UpstreamModel:
        """Return the model as glmserve serves it."""
        card = ModelCard(NAME, 1, aliases, "", UNSET, MAX_TOKENS, max_output_tokens)
        return UpstreamModel(card, Upstream(Place(self.url, THERE, KEY, timeout)))

    def app(
        self,
        *others: NamedModel,
        options: ApiOptions | None = None,
        aliases: tuple[str, ...] = (),
        max_output_tokens: int = 0,
        timeout: float = 20.0,
    ) -> FastAPI:
        """Return an application that serves the model, after ``others``."""
        models = [*others, self.model(aliases=aliases, max_output_tokens=max_output_tokens, timeout=timeout)]
        tasks = task_models(models, options.tasks.values() if options else ())
        return create_app(ModelRegistry(models, tasks=tasks), options, clock=lambda: datetime(2023, 7, 25, 9, 47))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections.append(connection)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream_in, contextlib.suppress(OSError, ValueError):
            while line := stream_in.readline():
                asked = self._read(line, stream_in)
                self.asked.append(asked)
                try:
                    for part in self._answer(asked):
                        connection.sendall(part)
                        self.written += len(part)
                except OSError:
                    self.gone.set()
                    return

    def _read(self, line: bytes, stream_in: BufferedReader) -> Asked:
        method, path, _ = line.decode().split(" ")
        headers = {}
        while field_line := stream_in.readline().decode().strip():
            name, _, value = field_line.partition(":")
            headers[name.lower()] = value.strip()
        data = stream_in.read(int(headers.get("content-length", 0)))
        return Asked(method, path, headers, json.loads(data) if data else {})

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        if asked.method == "GET":
            own = {"id": THERE, "object": "model", "max_model_len": 131072}
            listed = {"object": "list", "data": [{**own, "state": self.state} if self.state else own]}
            return reply(listed) if self.lists_models else reply({"detail": "Not Found"}, 404)
        return self.script(asked)


def cut_off(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``parts``, and then break the connection."""
    yield from parts
    raise OSError("the script ends here")


def slowly(parts: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """Yield ``parts`` with a pause before each."""
    for part in parts:
        time.sleep(seconds)
        yield part


def chunks_of(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which must end with [DONE]."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]


def said(text: str) -> str:
    """Return the text of a stream."""
    choices = [choice for one in chunks_of(text) for choice in one["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
