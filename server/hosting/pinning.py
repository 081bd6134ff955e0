"""Beginnings of prompts that stay cached: from the files of the settings to token ids."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from server.engine.messages import Pin
from server.prompts.beginning import common_beginning
from server.prompts.format import Encoder, PromptFormat
from server.prompts.message import Message, Role
from server.settings.table import ModelSettings
from server.tasks.task import Task, task_name

_LEAST_TOKENS = 16


class PinnedFileError(Exception):
    """A file that is to be pinned cannot be; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class PinnedPrompt:
    """What many prompts begin with. Where the last message is the user's, requests go on in it."""

    messages: tuple[Message, ...]
    variant: str = ""
    """The tuned variant that is asked; empty is the model as it is."""
    if_saved: bool = False
    """Only where it was pinned before, and its state kept."""

    @property
    def most_tokens(self) -> int:
        """More tokens than it will come to, but for rare scripts: a token is seldom less than a character."""
        return 16 + sum(len(message.content) + 16 for message in self.messages)


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
    """Yield what tasks begin with, done by ``model``, called ``name``, and by its variants.

    Those among ``named`` (each as ``TASK``, of the model as it is, or as ``MODEL:TASK``) are pinned when the model
    loads; the others were on their first use, so that their state is looked for.
    """
    for task in tasks:
        for variant in ("", *(variant.name for variant in model.variants)):
            at_load = task_name(variant or name, task.id) in named or (not variant and task.id in named)
            yield replace(task_prompt(task, variant), if_saved=not at_load)


def task_prompt(task: Task, variant: str) -> PinnedPrompt:
    """Return what all prompts of ``task`` begin with."""
    return PinnedPrompt((Message(Role.USER, task.beginning),), variant)


def pins(prompts: Iterable[PinnedPrompt], prompt_format: PromptFormat, encoder: Encoder) -> Sequence[Pin]:
    """Return what the engine is asked to keep: what is long enough to be found sooner than computed.

    Raises:
        PromptError: a prompt cannot be put that way.
    """
    found = ((prompt, common_beginning(prompt.messages, prompt_format, encoder)) for prompt in prompts)
    return [Pin(ids, prompt.variant, prompt.if_saved) for prompt, ids in found if len(ids) >= _LEAST_TOKENS]


def _read(file: Path) -> tuple[Message, ...]:
    """Return the messages of a ``.json`` file, or the text of any other one as the user's."""
    try:
        text = file.expanduser().read_text("utf-8")
        if file.suffix != ".json":
            return (Message(Role.USER, text),)
        return tuple(Message(message.role, message.content) for message in _MESSAGES.validate_json(text))
    except OSError as error:
        raise PinnedFileError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError):
        shape = '[{"role": "user", "content": "…"}, …]'
        raise PinnedFileError(f"{file}: must be text in UTF-8, or with .json a list of messages: {shape}") from None
