"""The files of the models, found and converted on the machine that needs them first."""

from collections.abc import Sequence

from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.bootstrap.model_source import ModelSource, convert_source
from glmserve.bootstrap.plans import Plans, find_sources, own_names, plan_models
from glmserve.config.schema import ModelSettings, Settings


def plan_here(settings: Settings) -> Plans:
    """Return what is to be served, with all files on this machine. Blocks.

    A checkpoint is converted once: a second process waits, also on another machine where they share the folder.

    Raises what ``find_sources`` and ``plan_models`` do, and ConvertError.
    """
    return plan_models(settings, find_sources(settings), _convert)


def plan_one(settings: Settings, model: ModelSettings) -> ModelPlan:
    """Return the plan of one of the models alone, as ``plan_here`` does."""
    own = settings.model_copy(update={"models": (model,), "default_model": "", "pin_task": ()})
    sources = find_sources(own)
    names = own_names(model, sources[0])
    pinned = tuple(task for task in settings.pin_task if ":" not in task or task.rpartition(":")[0] in names)
    return plan_models(own.model_copy(update={"pin_task": pinned}), sources, _convert).models[0]


def _convert(sources: Sequence[ModelSource]) -> None:
    for source in sources:
        convert_source(source)
