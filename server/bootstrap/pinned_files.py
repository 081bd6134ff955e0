"""Pinned prefixes from the settings and the files that they name."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task, task_name
from glmserve.config.schema import ModelSettings
from glmserve.model_pool.prefixes import PinnedPrompt, task_prompt


class PinnedFileError(Exception):
    """A file cannot be pinned; the message has its name and the reason."""


class _FileMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role
    content: str


_MESSAGES = TypeAdapter(list[_FileMessage])


def pinned_prompts(model: ModelSettings) -> tuple[PinnedPrompt, ...]:
    """Read the files that ``model`` and its variants pin.

    Raises:
        PinnedFileError: one cannot be read or holds something else.
    """
    owners = [("", model.pin), *((variant.name, variant.pin) for variant in model.variants)]
    return tuple(PinnedPrompt(_read(Path(file)), name) for name, files in owners for file in files)


def pinned_tasks(
    model: ModelSettings, name: str, tasks: Iterable[Task], named: Collection[str]
) -> Iterator[PinnedPrompt]:
    """Yield the prefixes of tasks for ``model``, called ``name``, and for its variants.

    Those among ``named`` (each as ``TASK``, of the model as it is, or as ``MODEL:TASK``) are pinned when the model
    loads; the others were on their first use, so that their state is looked for.
    """
    for task in tasks:
        for variant in ("", *(variant.name for variant in model.variants)):
            at_load = task_name(variant or name, task.id) in named or (not variant and task.id in named)
            yield replace(task_prompt(task, variant), if_saved=not at_load)


def _read(file: Path) -> tuple[Message, ...]:
    """Return the messages of a ``.json`` file, or the text of any other one as the user's."""
    try:
        text = file.expanduser().read_text("utf-8-sig")
        if file.suffix != ".json":
            return (Message(Role.USER, text),)
        return tuple(Message(message.role, message.content) for message in _MESSAGES.validate_json(text))
    except OSError as error:
        raise PinnedFileError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError):
        shape = '[{"role": "user", "content": "…"}, …]'
        raise PinnedFileError(f"{file}: must be text in UTF-8, or with .json a list of messages: {shape}") from None
