"""The files of the models, found, downloaded and converted on the machine that needs them first."""

import fcntl
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, convert_source, find_source, make_folder
from glmserve.bootstrap.plans import Plans, find_sources, own_names, plan_models
from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import Quant
from glmserve.models.catalog import find

log = logging.getLogger(__name__)


def plan_here(settings: Settings) -> Plans:
    """Return the models to be served, with all files on this machine. Blocks.

    A known model is downloaded and a checkpoint converted once: a second process waits, also on another machine where
    they share the folder.

    Raises what ``find_sources`` and ``plan_models`` do, and ConvertError.
    """
    for model in settings.local_models:
        download(model, settings)
    return plan_models(settings, find_sources(settings), _convert)


def plan_one(settings: Settings, model: ModelSettings) -> ModelPlan:
    """Return the plan of one of the models alone, as ``plan_here`` does."""
    download(model, settings)
    own = settings.model_copy(update={"models": (model,), "default_model": "", "pin_task": ()})
    sources = find_sources(own)
    names = own_names(model, sources[0])
    pinned = tuple(task for task in settings.pin_task if ":" not in task or task.rpartition(":")[0] in names)
    return plan_models(own.model_copy(update={"pin_task": pinned}), sources, _convert).models[0]


def download(model: ModelSettings, settings: Settings) -> None:
    """Download a known model from its hub, unless it is here.

    Raises:
        UnknownModelError: it cannot be downloaded; the message says why.
    """
    entry = find(model.model)
    if entry is None or not entry.repository or _is_here(model, settings):
        return
    make_folder(settings.cache_dir)
    with _alone(settings.cache_dir / f"{entry.name}.pull"):
        if _is_here(model, settings):
            return
        log.info("downloading %s, once", entry.name)
        chosen = () if model.quant is Quant.AUTO else ("--quant", model.quant.value)
        done = subprocess.run(
            [sys.executable, "-m", "glmserve.cli.main", "pull", entry.name, "--from", settings.hub.value, *chosen,
             "--cache-dir", str(settings.cache_dir)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise UnknownModelError(f"{entry.name} could not be downloaded: {done.stderr.strip()[-500:]}")


def _is_here(model: ModelSettings, settings: Settings) -> bool:
    try:
        find_source(model.model, model.quant, settings.cache_dir)
    except UnknownModelError:
        return False
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with the same ``path``."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(sources: Sequence[ModelSource]) -> None:
    for source in sources:
        convert_source(source)
