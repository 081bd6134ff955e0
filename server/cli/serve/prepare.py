"""From the MODELs and the settings of a command to an assembled server, with one clear line where that fails."""

import logging
from pathlib import Path

import click
from rich.console import Console

from glmserve.bootstrap.build import Assembly, AssemblyError, api_options, assemble, check_names, check_pinned_tasks
from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, convert_source, find_source
from glmserve.bootstrap.pinned_files import PinnedFileError, pinned_prompts, pinned_tasks
from glmserve.chat.tasks.loader import TaskFileError, load_tasks
from glmserve.cli.models.model_check import check_model, check_variants
from glmserve.cli.options import UsageProblem
from glmserve.config.schema import ModelSettings, Settings
from glmserve.convert.cli import progress_bar
from glmserve.convert.errors import ConvertError
from glmserve.engine.errors import ModelLoadError

log = logging.getLogger(__name__)


def prepare(settings: Settings) -> Assembly:
    """Find the models, convert them where needed, and assemble the server.

    Raises:
        UsageProblem: there is no such model, or the settings do not fit it.
        ClickException: its file cannot be served.
    """
    sources = [locate(model, settings.cache_dir) for model in settings.models]
    for model in settings.models:
        check_variants(model)
    try:
        check_names(settings, sources)
        tasks = load_tasks(settings.prompts, builtin=settings.builtin_tasks)
        check_pinned_tasks(settings, sources, tasks)
        pinned = [
            (*pinned_prompts(model), *pinned_tasks(model, model.name or source.name, tasks.values(), settings.pin_task))
            for model, source in zip(settings.models, sources, strict=True)
        ]
        api_options(settings)  # a faulty key should show before a model is converted
        for source in sources:
            convert_with_bar(source)
        each = zip(settings.models, sources, pinned, strict=True)
        plans = [ModelPlan(model, source, check_model(model, source), pin) for model, source, pin in each]
        return assemble(settings, plans, tasks)
    except (AssemblyError, PinnedFileError, TaskFileError) as error:
        raise UsageProblem(str(error)) from None
    except (ConvertError, ModelLoadError, OSError) as error:
        raise click.ClickException(str(error)) from None


def locate(model: ModelSettings, cache_dir: Path) -> ModelSource:
    """Resolve MODEL.

    Raises:
        UsageProblem: nothing.
    """
    try:
        return find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as error:
        raise UsageProblem(str(error)) from None


def convert_with_bar(source: ModelSource) -> None:
    """Convert the checkpoint of ``source`` where that has not been done yet, showing how far it is.

    Raises:
        ConvertError: the checkpoint cannot be converted.
    """
    if not source.needs_conversion or source.quant is None:
        return
    log.info("converting %s to %s, once", source.checkpoint, source.quant.value)
    with progress_bar(Console(stderr=True)) as sink:
        convert_source(source, sink)
