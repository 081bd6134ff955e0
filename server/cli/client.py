"""The client of a running server that the commands share."""

import json
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from glmserve.http.origins import is_local_host

_CONNECT_SECONDS = 5.0
_NEEDS_KEY = 401


class ServerCallError(Exception):
    """The server is unreachable or rejected the request; one line."""


def server_client(url: str, key: str = "") -> httpx.Client:
    """Return a client for the server at ``url``, which sends ``key`` if it is not empty.

    A proxy of the environment (HTTP_PROXY) is not asked for a server on this machine: there it would be another one.
    """
    host = _host(url)
    # An answer takes as long as it takes; only a server that is not there is given up on.
    return httpx.Client(
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        headers={"Authorization": f"Bearer {key}"} if key else None,
        mounts={f"all://[{host}]" if ":" in host else f"all://{host}": None} if is_local_host(host) else None,
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # the request says what is wrong with it


def checked(reply: httpx.Response) -> httpx.Response:
    """Return a reply that is no error. Raises ServerCallError."""
    if reply.is_success:
        return reply
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = reply.reason_phrase
    hint = "; --api-key or GLMSERVE_API_KEY gives it one" if reply.status_code == _NEEDS_KEY else ""
    raise ServerCallError(f"{message} (HTTP {reply.status_code}){hint}")


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message of the conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class AnswerStats:
    """Times and token counts of an answer as the client saw it; zeros where the server counts no tokens."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_seconds: float = 0.0
    """From the question to the first piece."""
    rest_seconds: float = 0.0
    """From there to the last one."""

    @property
    def in_words(self) -> str:
        """One line."""
        rate = f"{(self.completion_tokens - 1) / self.rest_seconds:.1f} tokens/s" if self.rest_seconds > 0 else ""
        parts = (
            f"{self.completion_tokens} tokens",
            rate,
            f"first after {self.first_seconds:.2f} s",
            f"prompt {self.prompt_tokens} tokens, {self.cached_tokens} cached",
        )
        return ", ".join(filter(None, parts))


class _Watch:
    """Reads the events of an answer, and notes when they came."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first = self._last = 0.0
        self._usage: Mapping[str, object] = {}

    def take(self, event: Mapping[str, object]) -> str:
        """Return the text of ``event``. Raises ServerCallError."""
        if "error" in event:
            error = event["error"]
            raise ServerCallError(str(error.get("message", error) if isinstance(error, dict) else error))
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        choices = event.get("choices")
        deltas = [choice.get("delta") or {} for choice in choices] if isinstance(choices, list) else []
        piece = "".join(delta.get("content") or "" for delta in deltas)
        if piece:
            self._last = time.monotonic()
            self._first = self._first or self._last
        return piece

    @property
    def stats(self) -> AnswerStats:
        """Figures of the answer."""
        details = self._usage.get("prompt_tokens_details")
        first = self._first or time.monotonic()
        return AnswerStats(
            _count(self._usage, "prompt_tokens"),
            _count(details if isinstance(details, dict) else {}, "cached_tokens"),
            _count(self._usage, "completion_tokens"),
            first - self._began,
            max(0.0, self._last - first),
        )


def _count(of: Mapping[str, object], name: str) -> int:
    value = of.get(name)
    return value if isinstance(value, int) else 0


class _Words(BaseModel):
    zh: str
    en: str


class _Variable(BaseModel):
    name: str
    description: _Words
    example: str
    default: str | None


class TaskCard(BaseModel):
    """A task as servers and ``--json`` list it."""

    id: str
    title: _Words
    description: _Words
    slots: list[_Variable]
    main_slot: str | None


class _Model(BaseModel):
    id: str
    parent: str | None = None
    task: TaskCard | None = None


class _Models(BaseModel):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class ServedTask:
    """A task and the model that does it."""

    model: str
    card: TaskCard


class ServerClient:
    """Calls one server: its lists of models and tasks, and answers as they come."""

    def __init__(self, url: str, key: str = "") -> None:
        """``url`` is the server's address, with or without ``/v1``; ``key`` an API key, where it needs one."""
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = server_client(self._url, key)

    def get(self, path: str, advice: str) -> bytes:
        """Return the body at ``path``; ``advice`` is the remedy if no server answers. Raises ServerCallError."""
        try:
            return checked(self._http.get(self._url + path)).content
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerCallError(f"no server answers at {self._url} ({error}); {advice}") from error

    def post(self, path: str, body: Mapping[str, object]) -> bytes:
        """Return the reply to ``body``. Raises ServerCallError."""
        try:
            return checked(self._http.post(self._url + path, json=body)).content
        except httpx.HTTPError as error:
            raise ServerCallError(f"the connection to {self._url} was lost ({error})") from error

    def events(self, path: str, body: Mapping[str, object]) -> Generator[Mapping[str, object], None, None]:
        """Yield the events of a streamed answer; closing the iterator stops the answer on the server.

        Raises:
            ServerCallError: the server rejects, or the connection is lost.
        """
        try:
            with self._http.stream("POST", self._url + path, json={**body, "stream": True}) as reply:
                if reply.is_error:
                    reply.read()
                for line in checked(reply).iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise ServerCallError(f"the connection to {self._url} was lost ({error})") from error

    def model_names(self) -> tuple[str, ...]:
        """Return the names of the served models; the first one answers requests that name none.

        Raises:
            ServerCallError: no server answers there, or it is no OpenAI server.
        """
        listed = self.get("/v1/models", "start one with glmserve serve")
        try:
            names = tuple(str(card["id"]) for card in json.loads(listed)["data"])
        except (ValueError, LookupError, TypeError) as error:
            raise ServerCallError(f"{self._url} is not an OpenAI-compatible server") from error
        if not names:
            raise ServerCallError(f"{self._url} serves no model")
        return names

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str | AnswerStats, None, None]:
        """Yield the pieces of the answer, then its figures; closing the iterator stops the answer on the server.

        Raises:
            ServerCallError: the server rejects, or ends the answer with an error.
        """
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **sampling,
            "stream_options": {"include_usage": True},
        }
        watch = _Watch()
        with closing(self.events("/v1/chat/completions", body)) as events:
            for event in events:
                yield watch.take(event)
        yield watch.stats

    def tasks(self, model: str = "") -> tuple[ServedTask, ...]:
        """Return the tasks of ``model``; or of the first one that has any.

        Raises:
            ServerCallError: no server answers there, or it has no tasks.
        """
        reply = self.get("/v1/models?kind=all", "start one with glmserve serve, or give --model")
        try:
            listed = _Models.model_validate_json(reply).data
        except ValidationError as error:
            raise ServerCallError(f"{self._url} lists no tasks: no glmserve server, or an older version") from error
        found = [ServedTask(card.parent or "", card.task) for card in listed if card.task is not None]
        wanted = model or next((task.model for task in found), "")
        return tuple(task for task in found if task.model == wanted)

    def perform(
        self, task: ServedTask, variables: Mapping[str, str], seed: int | None = None
    ) -> Generator[str, None, None]:
        """Yield the pieces of the answer; closing the iterator stops it on the server.

        Raises:
            ServerCallError: the server rejects, or ends the answer with an error.
        """
        prompt = {"id": task.card.id, "variables": dict(variables)}
        body = {"model": task.model, "prompt": prompt, "store": False, "seed": seed}
        with closing(self.events("/v1/responses", body)) as events:
            for event in events:
                yield _piece(event)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _piece(event: Mapping[str, object]) -> str:
    """Return the text that an event adds. Raises ServerCallError."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    failed = event.get("response") if event.get("type") == "response.failed" else None
    error = failed.get("error") if isinstance(failed, dict) else event if event.get("type") == "error" else None
    if isinstance(error, dict):
        raise ServerCallError(str(error.get("message", error)))
    return ""
