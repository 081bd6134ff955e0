"""The run of ``glmserve serve``. Apart from its flags, as help and completion ask for those and shall be quick."""

import logging
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from glmserve.bootstrap.build import Assembly, AssemblyError, api_options, assemble, check_names, check_pinned_tasks
from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, convert_source, find_source
from glmserve.bootstrap.pinned_files import PinnedFileError, pinned_prompts, pinned_tasks
from glmserve.bootstrap.uvicorn_server import AddressError, Server, base_url, bind, is_public, lan_url
from glmserve.chat.tasks.loader import TaskFileError, load_tasks
from glmserve.cli.models.model_check import check_model, check_variants
from glmserve.cli.options import UsageProblem
from glmserve.cli.serve.banner import Access, announced, ready_banner
from glmserve.config.schema import LogFormat, ModelSettings, Settings
from glmserve.convert.cli import progress_bar
from glmserve.convert.errors import ConvertError
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability.logging import configure_logging

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until the process is told to stop.

    Raises:
        ClickException: the server cannot be started, or has nothing left to serve.
    """
    configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
    if settings.log_prompts:
        log.warning("prompts and answers are written to this log (--log-prompts): protect it like personal data")
    try:
        _serve(settings)
    except click.ClickException as error:
        if settings.log_format is not LogFormat.JSON:
            raise
        log.critical("%s", error.format_message())
        raise SystemExit(error.exit_code) from None


def _serve(settings: Settings) -> None:
    try:
        listener = bind(settings.host, settings.port)
    except AddressError as error:
        raise click.ClickException(str(error)) from None
    with closing(listener):
        url = base_url(listener)
        access = Access(needs_key=settings.needs_key, lan_url=lan_url(listener))
        if is_public(listener) and not access.needs_key:
            log.warning(
                "there are no API keys: everybody who can reach %s may use this server; give it keys with "
                "--api-key-file, or have it listen on this machine alone with --host 127.0.0.1",
                access.lan_url or url,
            )
        assembly = prepare(settings)
        names = ", ".join(model.card.name for model in assembly.registry.models)
        log.info("starting with %s; the server answers on %s meanwhile", names, url)
        server = Server(assembly, settings, lambda: announce(url, assembly.registry, settings, access))
        try:
            server.run(sockets=[listener])
        except RuntimeError as error:
            if not server.should_exit:
                raise
            log.warning("the server ended, but could not wait for its threads: %s", error)  # none is given to wait in
    if server.has_given_up:
        raise click.ClickException("all engines failed, in spite of restarts (--max-restarts); the log has the reason")
    log.info("stopped")


def announce(url: str, registry: ModelRegistry, settings: Settings, access: Access) -> None:
    """Print the served models and the failed ones, in the log alone where programs read the output."""
    failed = [model for model in registry.models if model.status.state is EngineState.FAILED]
    if settings.log_format is LogFormat.JSON:
        names = [model.card.name for model in registry.models if model not in failed]
        log.info("glmserve is ready on %s", url, extra={"fields": {"url": url, "models": names}})
    elif len(failed) < len(registry.models):
        click.echo(ready_banner(url, [announced(model) for model in registry.models], access, page=settings.page))
    for model in failed:
        # Why has been logged. Whoever watches the server asks /health, so it stays.
        log.error("the server stays up without %s; /health says why, Ctrl-C stops it", model.card.name)


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
