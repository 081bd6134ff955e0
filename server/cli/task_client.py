"""Asking a running server for its tasks, and for one of them to be done."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from glmserve.cli.http_client import ServerCallError, ServerClient


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


class TaskClient(ServerClient):
    """Asks for the list of tasks, and for one of them to be done."""

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

    def perform(self, task: ServedTask, variables: Mapping[str, str]) -> Generator[str, None, None]:
        """Yield the pieces of the answer; closing the iterator stops it on the server.

        Raises:
            ServerCallError: the server refuses, or ends the answer with an error.
        """
        prompt = {"id": task.card.id, "variables": dict(variables)}
        body = {"model": task.model, "prompt": prompt, "store": False}
        with closing(self.events("/v1/responses", body)) as events:
            for event in events:
                yield _piece(event)


def _piece(event: Mapping[str, object]) -> str:
    """Return the text that an event adds. Raises ServerCallError."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    failed = event.get("response") if event.get("type") == "response.failed" else None
    error = failed.get("error") if isinstance(failed, dict) else event if event.get("type") == "error" else None
    if isinstance(error, dict):
        raise ServerCallError(str(error.get("message", error)))
    return ""
