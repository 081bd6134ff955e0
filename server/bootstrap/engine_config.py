"""From settings to the configuration of an engine and its pinned prompts.

Apart from the assembly, so that ``doctor`` can do without llama.cpp.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from glmserve.bootstrap.model_source import ModelSource
from glmserve.chat.prompts.formats import end_tokens
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task, task_name
from glmserve.config.schema import ModelSettings, Settings
from glmserve.engine.config import Adapter, EngineConfig, parse_device
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.gguf.prompt_format import TEMPLATE
from glmserve.model_pool.prefixes import PinnedPrompt, task_prompt

MODE_FOLDER = "compute-modes"
"""Below the cache folder: which compute modes work on this machine."""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model to serve: its settings, its source, and the facts of its file."""

    settings: ModelSettings
    source: ModelSource
    facts: ModelFacts
    pinned: tuple[PinnedPrompt, ...] = ()
    """Prefixes that stay cached."""

    @property
    def prompt_format(self) -> str:
        """Name of the format that was asked for, or else the file's; empty where neither says."""
        own = TEMPLATE if self.settings.chat_template else self.facts.prompt_format
        return self.settings.prompt_format or own

    @property
    def format_problem(self) -> str:
        """Why the format is not known, in one line; empty where it is, and for a model without prompts."""
        if self.prompt_format or self.facts.embeds:
            return ""
        found = self.facts.format_inference
        choice = f" {' or '.join(found.candidates)}" if found.candidates else ""
        return (
            f"{self.facts.path}: the file does not name its prompt format"
            f"{f' and {found.reason}' if found.reason else ''}; set it with --prompt-format{choice}"
        )


@dataclass(frozen=True, slots=True)
class SavedPrompts:
    """Where computed prompts are saved, and how many bytes of them."""

    folder: Path
    most_bytes: int


PROMPT_FOLDER = "prompts"
"""Of saved prompts, in the cache folder."""

PREFIX_FOLDER = "prefixes"
"""Of the states of pinned prefixes."""


def saved_prompts(settings: Settings) -> SavedPrompts | None:
    """Return where prompts are saved; None where they are not."""
    if not settings.prompt_disk:
        return None
    return SavedPrompts(settings.cache_dir / PROMPT_FOLDER, int(settings.prompt_disk_mb * 1e6))


_PASSED = sorted({field.name for field in fields(EngineConfig)} & ModelSettings.model_fields.keys() - {"device"})
"""Settings that an engine gets under their own names."""


def engine_config(
    plan: ModelPlan,
    state_dir: Path | None = None,
    state_bytes: int = 0,
    mode_dir: Path | None = None,
    prompts: SavedPrompts | None = None,
) -> EngineConfig:
    """Return the configuration of an engine; saved states of pinned prefixes are kept in ``state_dir``.

    ``mode_dir`` keeps which compute modes work; other prompts are saved as ``prompts`` says.

    Several engines share the cores of the machine: each has as many threads as there are cores, as a model that
    answers alone should be as fast as the machine is, and threads that wait for work sleep.
    """
    return replace(
        _computing(plan),
        pinned_cells=sum(prompt.most_tokens for prompt in plan.pinned if not prompt.if_saved),
        state_dir=state_dir if plan.pinned else None,
        state_bytes=state_bytes,
        mode_dir=mode_dir,
        prompt_dir=prompts.folder if prompts else None,
        prompt_bytes=prompts.most_bytes if prompts else 0,
    )


def _computing(plan: ModelPlan) -> EngineConfig:
    """Return the configuration of an engine that keeps nothing on the disk."""
    settings = plan.settings
    device, gpus = parse_device(settings.device)
    return EngineConfig(
        model_path=plan.facts.path,
        context_length=settings.context or _usual_context(plan.source, plan.facts),
        cache_cells=settings.cache_tokens,
        device=device,
        gpus=gpus,
        adapters=tuple(Adapter(v.name, v.lora, v.prefix) for v in settings.variants),
        end_tokens=end_tokens(plan.prompt_format),
        **{name: getattr(settings, name) for name in _PASSED},
    )


def _usual_context(source: ModelSource, facts: ModelFacts) -> int:
    """Return the catalog's figure for a known model: some files claim more than they were trained to chat with."""
    return min(source.entry.context_length, facts.context_train) if source.entry else 0


class PinnedFileError(Exception):
    """A file cannot be pinned; the message has its name and the reason."""


class _FileMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role
    content: str


_MESSAGES = TypeAdapter(list[_FileMessage])


def pinned_prompts(model: ModelSettings) -> tuple[PinnedPrompt, ...]:
    """Read the files that ``model`` and its adapters pin.

    Raises:
        PinnedFileError: one cannot be read or holds something else.
    """
    owners = [("", model.pin), *((adapter.name, adapter.pin) for adapter in model.variants)]
    return tuple(PinnedPrompt(_read(Path(file)), name) for name, files in owners for file in files)


def pinned_tasks(
    model: ModelSettings, name: str, tasks: Iterable[Task], named: Collection[str]
) -> Iterator[PinnedPrompt]:
    """Yield the prefixes of tasks for ``model``, called ``name``, and for its adapters.

    Those among ``named`` (each as ``TASK``, of the model as it is, or as ``MODEL:TASK``) are pinned when the model
    loads; the others were on their first use, so that their state is looked for.
    """
    for task in tasks:
        for adapter in ("", *(adapter.name for adapter in model.variants)):
            at_load = task_name(adapter or name, task.id) in named or (not adapter and task.id in named)
            yield replace(task_prompt(task, adapter), if_saved=not at_load)


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
