"""Asking a running server for its tasks, and for one of them to be done."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ValidationError

from glmserve.cli.http_client import server_client


class TaskCallError(Exception):
    """The server cannot be reached, or does not do the task; one line."""


class _Words(BaseModel):
    zh: str
    en: str


class _Slot(BaseModel):
    name: str
    description: _Words
    example: str
    default: str | None


class TaskCard(BaseModel):
    """A task as servers and ``--json`` list it."""

    id: str
    title: _Words
    description: _Words
    slots: list[_Slot]
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


class TaskClient:
    """A client of one server."""

    def __init__(self, url: str, key: str = "") -> None:
        """``url`` is the server's address, with or without ``/v1``; ``key`` an API key, where it needs one."""
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = server_client(self._url, key)

    def tasks(self, model: str = "") -> tuple[ServedTask, ...]:
        """Return the tasks of ``model``; or of the first one that has any.

        Raises:
            TaskCallError: nobody answers there, or nobody who has tasks.
        """
        try:
            listed = _Models.model_validate_json(
                _checked(self._http.get(f"{self._url}/v1/models?kind=all")).content
            ).data
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TaskCallError(
                f"no server answers at {self._url} ({error}); start one with glmserve serve, or give --model"
            ) from error
        except ValidationError as error:
            raise TaskCallError(f"{self._url} lists no tasks: no glmserve server, or an older version") from error
        found = [ServedTask(card.parent or "", card.task) for card in listed if card.task is not None]
        wanted = model or next((task.model for task in found), "")
        return tuple(task for task in found if task.model == wanted)

    def perform(self, task: ServedTask, variables: Mapping[str, str]) -> Generator[str, None, None]:
        """Yield the pieces of the answer; closing the iterator stops it on the server.

        Raises:
            TaskCallError: the server refuses, or ends the answer with an error.
        """
        prompt = {"id": task.card.id, "variables": dict(variables)}
        body = {"model": task.model, "prompt": prompt, "stream": True, "store": False}
        try:
            with self._http.stream("POST", f"{self._url}/v1/responses", json=body) as reply:
                if reply.is_error:
                    reply.read()
                for line in _checked(reply).iter_lines():
                    if line.startswith("data: "):
                        yield _piece(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError as error:
            raise TaskCallError(f"the connection to {self._url} was lost ({error})") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _piece(event: Mapping[str, object]) -> str:
    """Return the text that an event adds. Raises TaskCallError."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    failed = event.get("response") if event.get("type") == "response.failed" else None
    error = failed.get("error") if isinstance(failed, dict) else event if event.get("type") == "error" else None
    if isinstance(error, dict):
        raise TaskCallError(str(error.get("message", error)))
    return ""


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_success:
        return reply
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = reply.reason_phrase
    raise TaskCallError(f"{message} (HTTP {reply.status_code})")
