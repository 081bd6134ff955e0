"""From settings to the models that are served: files are found, converted where they have to be, and checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from glmserve.bootstrap.engine_config import ModelPlan, pinned_prompts, pinned_tasks
from glmserve.bootstrap.model_source import ModelSource, check_adapters, check_model, find_source
from glmserve.chat.tasks.loader import load_tasks
from glmserve.chat.tasks.task import Task, task_name
from glmserve.config.schema import ModelSettings, Settings


class AssemblyError(Exception):
    """The settings do not fit the models."""


@dataclass(frozen=True, slots=True)
class Plans:
    """The models to be served."""

    models: tuple[ModelPlan, ...]
    tasks: Mapping[str, Task]
    """The stored prompts."""


def find_sources(settings: Settings) -> tuple[ModelSource, ...]:
    """Find the file of each model that this server runs itself. Raises UnknownModelError."""
    for model in settings.local_models:
        check_adapters(model)
    return tuple(find_source(model.model, model.quant, settings.cache_dir) for model in settings.local_models)


def plan_models(
    settings: Settings, sources: Sequence[ModelSource], convert: Callable[[Sequence[ModelSource]], None]
) -> Plans:
    """Check names and tasks, convert models where they have to be by ``convert``, and check the files.

    Raises:
        AssemblyError, PinnedFileError, TaskFileError: the settings do not fit the models, or each other.
        ModelLoadError: a file cannot be served.
    """
    check_names(settings, sources)
    tasks = load_tasks(settings.prompts, builtin=settings.builtin_tasks)
    check_pinned_tasks(settings, sources, tasks)
    pinned = [
        (*pinned_prompts(model), *pinned_tasks(model, model.name or source.name, tasks.values(), settings.pin_task))
        for model, source in zip(settings.local_models, sources, strict=True)
    ]
    convert([source for source in sources if source.needs_conversion])
    each = zip(settings.local_models, sources, pinned, strict=True)
    return Plans(tuple(ModelPlan(model, source, check_model(model, source), pin) for model, source, pin in each), tasks)


def check_names(settings: Settings, sources: Sequence[ModelSource]) -> None:
    """Check, before anything is converted, that each name means one model.

    Raises:
        AssemblyError: one means two, or the default model none.
    """
    names: set[str] = set()
    local = zip(settings.local_models, sources, strict=True)
    each = [(*own_names(model, source), *model.alias) for model, source in local]
    each += [(model.public_name, *model.alias) for model in settings.models if model.upstream]
    for model in each:
        for name in model:
            if name in names:
                raise AssemblyError(f"two served models have the name {name!r}; rename one of them")
            names.add(name)
    if settings.default_model and settings.default_model not in names:
        raise AssemblyError(
            f"no served model has the name {settings.default_model!r}; served models: {', '.join(sorted(names))}"
        )


def check_pinned_tasks(settings: Settings, sources: Sequence[ModelSource], tasks: Mapping[str, Task]) -> None:
    """Check that each task that is to be pinned is there. Raises AssemblyError."""
    each = zip(settings.local_models, sources, strict=True)
    names = [name for model, source in each for name in own_names(model, source)]
    names += [model.public_name for model in settings.models if model.upstream]
    known = {*tasks, *(task_name(name, task_id) for name in names for task_id in tasks)}
    for name in settings.pin_task:
        if name not in known:
            raise AssemblyError(f"--pin-task {name}: there is no such task; there are: {', '.join(tasks) or 'none'}")


def own_names(model: ModelSettings, source: ModelSource) -> tuple[str, ...]:
    """Return the names that a model and its adapters have in requests, beside aliases."""
    return (model.name or source.name, *(adapter.name for adapter in model.variants))
