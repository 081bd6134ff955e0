"""Running a server: for ``glmserve serve``, with its banner, and for a conversation or task that needs one.

What serves HTTP is imported only after the first engine process was started. Both take about as long, so that a server
with a small model answers a third sooner.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, TypeVar

import click

from glmserve.bootstrap.build import build_registry
from glmserve.bootstrap.engine_config import PinnedFileError
from glmserve.bootstrap.listener import AddressError, base_url, bind, is_public, lan_url
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, check_adapters, find_source
from glmserve.bootstrap.plans import AssemblyError, plan_models
from glmserve.bootstrap.prerequisites import check_prerequisites
from glmserve.chat.tasks.loader import TaskFileError
from glmserve.chat.tasks.task import Task
from glmserve.cli.options import UsageProblem, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import LogFormat
from glmserve.convert.errors import (
    AdapterError,
    CheckpointError,
    ConvertError,
    UnsupportedModelError,
    VocabularyError,
)
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.interface import EngineState, EngineStatus
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability.logging import configure_logging

if TYPE_CHECKING:
    from glmserve.bootstrap.uvicorn_server import Server

_T = TypeVar("_T")

_OWN_BATCHES = "batches-of-commands"
"""Folder in the cache."""
log = logging.getLogger(__name__)


class NothingLoadedError(click.ClickException):
    """No model can be loaded, and none could by trying again: an exit status that supervisors need not retry."""

    exit_code = 2


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
        if is_public(listener) and not settings.needs_key:
            log.warning(
                "there are no API keys: everybody who can reach %s may use this server; give it keys with "
                "--api-key-file, or have it listen on this machine alone with --host 127.0.0.1",
                lan_url(listener) or url,
            )
        registry, tasks = prepare(settings, listener)
        names = ", ".join(model.card.name for model in registry.models)
        log.info("starting with %s; the server answers on %s meanwhile", names, url)

        def make() -> "Server":
            return _server(registry, settings, tasks, lambda: announce(listener, registry, settings))

        server = _run(_load_and_serve(registry, make, listener))
    if server.never_loaded:
        raise NothingLoadedError(server.never_loaded)
    if server.has_given_up:
        raise click.ClickException("all engines failed, in spite of restarts (--max-restarts); the log has the reason")
    log.info("stopped")


async def _load_and_serve(registry: ModelRegistry, make: Callable[[], "Server"], listener: socket.socket) -> "Server":
    """Begin to load the models, make the server beside that, and serve. Raises UsageProblem."""
    registry.begin()
    try:
        server = await asyncio.to_thread(make)
    except BaseException:
        await registry.stop()
        raise
    try:
        await server.serve(sockets=[listener])
    except RuntimeError as error:
        if not server.should_exit:
            raise
        log.warning("the server ended, but could not wait for its threads: %s", error)  # none is given to wait in
    return server


def _server(
    registry: ModelRegistry, settings: Settings, tasks: Mapping[str, Task], on_settled: Callable[[], None]
) -> "Server":
    """Import and assemble the HTTP server. Raises UsageProblem: the settings do not fit."""
    from glmserve.bootstrap.app_settings import make_app  # noqa: PLC0415 - see above
    from glmserve.bootstrap.uvicorn_server import Server  # noqa: PLC0415

    try:
        return Server(make_app(registry, settings, tasks), registry, settings, on_settled)
    except AssemblyError as error:
        raise UsageProblem(str(error)) from None


def _run(main: Coroutine[None, None, _T]) -> _T:
    """Run ``main`` in uvloop where there is one, as uvicorn does."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def announce(listener: socket.socket, registry: ModelRegistry, settings: Settings) -> None:
    """Print the served models and the failed ones, in the log alone where programs read the output."""
    from glmserve.cli.banner import Access, announced, ready_banner  # noqa: PLC0415 - has the addresses of the API

    url = base_url(listener)
    access = Access(needs_key=settings.needs_key, lan_url=lan_url(listener))
    failed = [model for model in registry.models if model.status.state is EngineState.FAILED]
    if settings.log_format is LogFormat.JSON:
        names = [model.card.name for model in registry.models if model not in failed]
        log.info("glmserve is ready on %s", url, extra={"fields": {"url": url, "models": names}})
    elif len(failed) < len(registry.models):
        click.echo(ready_banner(url, [announced(model) for model in registry.models], access, page=settings.page))
    if len(failed) == len(registry.models):
        return  # then it ends
    for model in failed:
        # Why has been logged. Whoever watches the server asks /health, so it stays.
        log.error("the server stays up without %s; /health says why, Ctrl-C stops it", model.card.name)


def prepare(settings: Settings, listener: socket.socket | None = None) -> tuple[ModelRegistry, Mapping[str, Task]]:
    """Find the models, convert them where needed, and return them and the tasks; nothing is loaded.

    While it converts, callers at ``listener`` are told how far that is.

    Raises:
        UsageProblem: there is no such model, or the settings do not fit it.
        NothingLoadedError: its file cannot be served.
        ClickException: it cannot be converted, which may work at another time.
    """

    def convert(missing: Sequence[ModelSource]) -> None:
        _convert(settings, missing, listener)

    try:
        check_prerequisites(settings)
        sources = [locate(model, settings.cache_dir) for model in settings.local_models]
        plans = plan_models(settings, sources, convert)
        return build_registry(settings, plans.models, plans.tasks), plans.tasks
    except (AssemblyError, PinnedFileError, TaskFileError) as error:
        raise UsageProblem(str(error)) from None
    except (CheckpointError, UnsupportedModelError, VocabularyError, AdapterError, ModelLoadError) as error:
        raise NothingLoadedError(str(error)) from None
    except (ConvertError, OSError) as error:
        raise click.ClickException(str(error)) from None


def locate(model: ModelSettings, cache_dir: Path) -> ModelSource:
    """Resolve MODEL.

    Raises:
        UsageProblem: nothing, or a file of its adapters is missing.
    """
    try:
        check_adapters(model)
        return find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as error:
        raise UsageProblem(str(error)) from None


def _convert(settings: Settings, sources: Sequence[ModelSource], listener: socket.socket | None) -> None:
    """Convert checkpoints. Raises ConvertError."""
    if sources:
        from glmserve.cli.conversion import convert_all  # noqa: PLC0415

        convert_all(sources, listener, tell=not settings.needs_key)


@contextmanager
def own_server(model: str, config: Path | None, flags: Mapping[str, object], *, batches: bool = False) -> Iterator[str]:
    """Serve ``model`` on a free port while the block runs; yields the address. ``flags`` are the settings.

    With ``batches`` it has some of its own: those of other servers are for the models of those.

    Raises:
        UsageProblem: a setting is unknown or cannot have its value.
        ClickException: the model cannot be served.
    """
    from rich.console import Console  # noqa: PLC0415 - a server that is served needs none

    settings = read_settings((model,), config, {**flags, "log_level": flags["log_level"] or "warning"})
    # Only this command calls the server, so it needs none of the keys of others.
    kept = {"batch_dir": settings.batch_dir or settings.cache_dir / _OWN_BATCHES} if batches else {"batch_store_mb": 0}
    settings = settings.model_copy(update={"api_key": (), "api_key_file": None, **kept})
    configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
    settled: Queue[EngineStatus] = Queue()
    with closing(bind("127.0.0.1", 0)) as listener:
        registry, tasks = prepare(settings)
        server = _server(registry, settings, tasks, lambda: settled.put(registry.get(None).status))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with Console(stderr=True).status(say("loading {name}…", name=registry.get(None).card.name)):
                status = settled.get()
            if status.state is EngineState.FAILED:
                raise click.ClickException(status.reason)
            yield base_url(listener)
        finally:
            server.should_exit = True
            thread.join()
