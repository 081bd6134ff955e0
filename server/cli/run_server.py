"""Running a server: for ``glmserve serve``, with its banner, and for a conversation or task that needs one.

Apart from the commands' flags, as help and completion ask for those and shall be quick.
"""

import json
import logging
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue

import click
from rich.console import Console

from glmserve.bootstrap.build import Assembly, api_options, assemble
from glmserve.bootstrap.engine_config import PinnedFileError
from glmserve.bootstrap.model_source import (
    ModelSource,
    UnknownModelError,
    check_variants,
    convert_source,
    find_source,
)
from glmserve.bootstrap.plans import AssemblyError, plan_models
from glmserve.bootstrap.uvicorn_server import (
    AddressError,
    Progress,
    Server,
    base_url,
    bind,
    is_public,
    lan_url,
    waiting_room,
)
from glmserve.chat.tasks.loader import TaskFileError
from glmserve.cli.options import UsageProblem, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.compat.legacy import BAICHUAN, CHATGLM, Contract
from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import LogFormat
from glmserve.convert.cli import progress_bar
from glmserve.convert.errors import (
    AdapterError,
    CheckpointError,
    ConvertError,
    UnsupportedModelError,
    VocabularyError,
)
from glmserve.convert.pipeline import Progress as Step
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.interface import EngineState, EngineStatus
from glmserve.engine.messages import EngineInfo
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import NamedModel, RerankModel
from glmserve.model_pool.upstream_model import UpstreamModel
from glmserve.observability.logging import configure_logging

_GREETING = "你好"
_LINE_SECONDS = 10.0
"""Between two lines of the log about a conversion."""
_OWN_BATCHES = "batches-of-commands"
"""Folder in the cache."""
KEY_PLACEHOLDER = "YOUR_API_KEY"
_LEGACY: tuple[tuple[Contract, Mapping[str, object]], ...] = (
    (CHATGLM, {"prompt": _GREETING, "history": []}),
    (BAICHUAN, {"prompt": _GREETING}),
)


@dataclass(frozen=True, slots=True)
class Access:
    """How the server can be called."""

    needs_key: bool = False
    lan_url: str = ""
    """Its address for other machines, where it listens on all of its own."""


OPEN = Access()
_ANY_FORMAT = "upstream"
"""In place of the prompt format of a model that an upstream runs, which answers at all legacy addresses."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A line about a model."""

    name: str
    prompt_format: str
    """Empty of an embedding model or a reranker."""
    note: str
    ranks: bool = False
    """Whether it is a reranker."""


def announced(model: NamedModel) -> Announced:
    """Return the banner's lines about ``model``."""
    card, status, ranks = model.card, model.status, isinstance(model, RerankModel)
    if isinstance(model, UpstreamModel):
        state = status.reason or say("it answers")
        return Announced(card.name, _ANY_FORMAT, f"{model.upstream.place.url}; {state}")
    if status.state is EngineState.READY:
        info = model.host.info
        note = f"{info.device}; {_work(info, model.context_length)}"
    elif status.state is EngineState.IDLE:
        note = say("is loaded by the first request for it")
    else:
        note = say("cannot be served: {reason}", reason=status.reason)
    if card.parent:
        note = f"{note} ({say('a variant of {parent}', parent=card.parent)})"
    return Announced(card.name, card.prompt_format, note, ranks)


def _work(info: EngineInfo, tokens: int) -> str:
    """Return what an engine does, in words."""
    if info.ranks:
        return say("scores of pairs of texts, of {tokens} tokens at most", tokens=tokens)
    if info.embedding_size:
        numbers = info.embedding_size
        return say("vectors of {numbers} numbers, of texts of {tokens} tokens at most", numbers=numbers, tokens=tokens)
    return say("up to {answers} answers at once, {tokens} tokens each", answers=info.parallel, tokens=tokens)


def ready_banner(url: str, models: Sequence[Announced], access: Access = OPEN, *, page: bool = True) -> str:
    """Return the address, a line for each model, and one to try for each kind of caller; ``page``: there is one."""
    browser = (say("In a browser:"), f"  {url}/") if page else ()
    head = (*_head(url, models), *_lan(access))
    return "\n".join((*head, "", *browser, *_examples(url, models, access), "", say("Ctrl-C stops the server.")))


def _lan(access: Access) -> Iterator[str]:
    if access.lan_url:
        address = say("Other machines reach it on {url}", url=access.lan_url)
        everybody = "{address}, for everybody who can reach it: there are no API keys (--api-key-file)"
        yield address if access.needs_key else say(everybody, address=address)


def _head(url: str, models: Sequence[Announced]) -> Iterator[str]:
    if len(models) == 1:
        yield say("{name} is ready on {url}", name=models[0].name, url=url)
        yield models[0].note
        return
    several = "glmserve is ready on {url} with {count} models, the first one for requests that name none:"
    yield say(several, url=url, count=len(models))
    width = max(len(model.name) for model in models)
    yield from (f"  {model.name:{width}}  {model.note}" for model in models)


def _examples(url: str, models: Sequence[Announced], access: Access) -> Iterator[str]:
    curl = partial(_curl, needs_key=access.needs_key)
    any_key = "OpenAI clients (base_url {url}/v1, any api_key):"
    yield say("OpenAI clients (base_url {url}/v1, an api_key):" if access.needs_key else any_key, url=url)
    answering = [model for model in models if model.prompt_format]
    if answering:
        chat = {"model": answering[0].name, "messages": [{"role": "user", "content": _GREETING}]}
        yield "  " + curl(f"{url}/v1/chat/completions", chat)
        yield say("The same, streamed:")
        yield "  " + curl(f"{url}/v1/chat/completions", {**chat, "stream": True}, "-N")
    for ranks in (False, True):
        encoders = [model.name for model in models if not model.prompt_format and model.ranks is ranks]
        if encoders and ranks:
            pair = {"query": _GREETING, "documents": [_GREETING]}
            yield "  " + curl(f"{url}/v1/rerank", {"model": encoders[0], **pair})
        elif encoders:
            yield "  " + curl(f"{url}/v1/embeddings", {"model": encoders[0], "input": _GREETING})
    formats = {model.prompt_format for model in models}
    legacy = [(contract, body) for contract, body in _LEGACY if formats & {*contract.formats, _ANY_FORMAT}]
    if legacy:
        yield say("Programs written for the original api.py:")
    yield from ("  " + curl(url + contract.paths[0], body) for contract, body in legacy)


def _curl(url: str, body: Mapping[str, object], *flags: str, needs_key: bool) -> str:
    """Return a shell command that posts ``body``; a key is to be filled in."""
    data = json.dumps(body, ensure_ascii=False)
    key = ("-H", f"Authorization: Bearer {KEY_PLACEHOLDER}") if needs_key else ()
    return shlex.join(["curl", *flags, url, "-H", "Content-Type: application/json", *key, "-d", data])


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
        access = Access(needs_key=settings.needs_key, lan_url=lan_url(listener))
        if is_public(listener) and not access.needs_key:
            log.warning(
                "there are no API keys: everybody who can reach %s may use this server; give it keys with "
                "--api-key-file, or have it listen on this machine alone with --host 127.0.0.1",
                access.lan_url or url,
            )
        assembly = prepare(settings, listener)
        names = ", ".join(model.card.name for model in assembly.registry.models)
        log.info("starting with %s; the server answers on %s meanwhile", names, url)
        server = Server(assembly, settings, lambda: announce(url, assembly.registry, settings, access))
        try:
            server.run(sockets=[listener])
        except RuntimeError as error:
            if not server.should_exit:
                raise
            log.warning("the server ended, but could not wait for its threads: %s", error)  # none is given to wait in
    if server.never_loaded:
        raise NothingLoadedError(server.never_loaded)
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
    if len(failed) == len(registry.models):
        return  # then it ends
    for model in failed:
        # Why has been logged. Whoever watches the server asks /health, so it stays.
        log.error("the server stays up without %s; /health says why, Ctrl-C stops it", model.card.name)


def prepare(settings: Settings, listener: socket.socket | None = None) -> Assembly:
    """Find the models, convert them where needed, and assemble the server.

    While it converts, callers at ``listener`` are told how far that is.

    Raises:
        UsageProblem: there is no such model, or the settings do not fit it.
        NothingLoadedError: its file cannot be served.
        ClickException: it cannot be converted, which may work at another time.
    """
    sources = [locate(model, settings.cache_dir) for model in settings.local_models]

    def convert(missing: Sequence[ModelSource]) -> None:
        api_options(settings)  # a faulty key should show before a model is converted
        _convert_all(missing, listener, tell=not settings.needs_key)

    try:
        plans = plan_models(settings, sources, convert)
        return assemble(settings, plans.models, plans.tasks)
    except (AssemblyError, PinnedFileError, TaskFileError) as error:
        raise UsageProblem(str(error)) from None
    except (CheckpointError, UnsupportedModelError, VocabularyError, AdapterError, ModelLoadError) as error:
        raise NothingLoadedError(str(error)) from None
    except (ConvertError, OSError) as error:
        raise click.ClickException(str(error)) from None


def locate(model: ModelSettings, cache_dir: Path) -> ModelSource:
    """Resolve MODEL.

    Raises:
        UsageProblem: nothing, or a file of its variants is missing.
    """
    try:
        check_variants(model)
        return find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as error:
        raise UsageProblem(str(error)) from None


def _convert_all(sources: Sequence[ModelSource], listener: socket.socket | None, *, tell: bool) -> None:
    """Convert checkpoints, and tell how far it is: by a bar or in the log, and callers. Raises ConvertError."""
    if not sources:
        return
    progress = Progress(tell=tell)
    with waiting_room(listener, progress) if listener else nullcontext():
        for source in sources:
            _convert(source, progress)


def _convert(source: ModelSource, progress: Progress) -> None:
    log.info("converting %s to %s, once", source.checkpoint, source.quant.value if source.quant else "")
    console = Console(stderr=True)
    next_line = time.monotonic() + _LINE_SECONDS
    with progress_bar(console) as bar:

        def tell(step: Step) -> None:
            nonlocal next_line
            bar(step)
            share = f"{step.done_bytes / max(1, step.total_bytes):.0%} of {step.total_bytes / 1e9:.2f} GB"
            progress.text = f"{source.name} is being converted: {share}"
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line += _LINE_SECONDS
                log.info("converting %s: %s", source.name, share)

        convert_source(source, tell)


@contextmanager
def own_server(model: str, config: Path | None, flags: Mapping[str, object], *, batches: bool = False) -> Iterator[str]:
    """Serve ``model`` on a free port while the block runs; yields the address. ``flags`` are the settings.

    With ``batches`` it has some of its own: those of other servers are for the models of those.

    Raises:
        UsageProblem: a setting is unknown or cannot have its value.
        ClickException: the model cannot be served.
    """
    settings = read_settings((model,), config, {**flags, "log_level": flags["log_level"] or "warning"})
    # Only this command calls the server, so it needs none of the keys of others.
    kept = {"batch_dir": settings.batch_dir or settings.cache_dir / _OWN_BATCHES} if batches else {"batch_store_mb": 0}
    settings = settings.model_copy(update={"api_key": (), "api_key_file": None, **kept})
    configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
    settled: Queue[EngineStatus] = Queue()
    with closing(bind("127.0.0.1", 0)) as listener:
        console = Console(stderr=True)
        assembly = prepare(settings)
        server = Server(assembly, settings, lambda: settled.put(assembly.registry.get(None).status))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with console.status(say("loading {name}…", name=assembly.registry.get(None).card.name)):
                status = settled.get()
            if status.state is EngineState.FAILED:
                raise click.ClickException(status.reason)
            yield base_url(listener)
        finally:
            server.should_exit = True
            thread.join()
