"""The child process: receive messages, step, send the outputs."""

import logging
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

from glmserve.engine.child_process import ENDING_SIGNALS, LogPipe, Outgoing, end_with_parent
from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.core import EmbeddingCore, EmbeddingRunner
from glmserve.engine.errors import ModelLoadError, SelfTestFailed
from glmserve.engine.kv_cache.prompt_files import PromptFiles
from glmserve.engine.kv_cache.state_store import StateStore
from glmserve.engine.messages import (
    Abort,
    Embed,
    LoadFailed,
    Pin,
    Ready,
    SelfTesting,
    Shutdown,
    StepOutput,
    StepReport,
    Submit,
    ToWorker,
)
from glmserve.engine.model_runner import ModelRunner, StateLost
from glmserve.engine.scheduler.step_budget import LEAST_UNWATCHED, TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore, EngineCorrupted
from glmserve.engine.worker.entry import RunnerFactory

log = logging.getLogger(__name__)

_PREPARING_SECONDS = 0.005
"""How often to look whether a grammar is compiled, while there is nothing else to do."""

_SAVING_SECONDS = 0.1
"""Idle seconds before the next prompt is saved; a request that comes meanwhile is sooner."""

IDLE_SECONDS = 1.0
"""Idle seconds before the integrity check, which takes a millisecond."""


def run_worker(connection: Connection, config: EngineConfig, load: RunnerFactory, log_level: int) -> None:
    """Entry point of the process. Ends with exit code 0 when told to, or when the parent is gone."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a terminal or systemd sends it to all; the parent ends this process
    end_with_parent()
    outgoing = Outgoing(connection)
    logging.basicConfig(level=log_level, handlers=[LogPipe(outgoing.send)])
    try:
        _run(connection, outgoing, config, load)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody is left to work for
    except (EngineCorrupted, StateLost) as error:
        log.critical("%s; this process ends and is restarted", error)
        sys.exit(1)
    except Exception:
        log.critical("the engine process ends with an unexpected error", exc_info=True)
        sys.exit(1)


def _run(connection: Connection, outgoing: Outgoing, config: EngineConfig, load: RunnerFactory) -> None:
    try:
        runner = load(config)
        if config.self_test:
            outgoing.send(SelfTesting())
            runner.self_test()
    except ModelLoadError as error:
        outgoing.send(LoadFailed(str(error), isinstance(error, SelfTestFailed)))
        return
    except Exception as error:
        log.exception("loading failed with an unexpected error")
        reason = "there is not enough memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
        outgoing.send(LoadFailed(f"{config.model_path.name}: {reason}"))
        return
    outgoing.send(Ready(runner.info))
    if isinstance(runner, EmbeddingRunner):
        serve_embeddings(EmbeddingCore(runner), connection, outgoing)
    else:
        core = _core(runner, config)
        serve(core, connection, outgoing)
        core.close()
    runner.close()


def _core(runner: ModelRunner, config: EngineConfig) -> EngineCore:
    policy = TokenBudgetPolicy(config.step_seconds, config.batch_size, runner.attention_tile, unwatched=LEAST_UNWATCHED)
    speculates = config.speculation and runner.cache_traits.undoes
    speculation = SpeculativeController(runner.stop_ids) if speculates else None
    return EngineCore(
        runner,
        policy,
        speculation=speculation,
        states=_states(config),
        prompts=_prompts(config),
        deterministic=config.deterministic,
    )


def _states(config: EngineConfig) -> StateStore | None:
    return StateStore(config.state_dir, config.state_bytes) if config.state_dir and config.state_bytes else None


def _prompts(config: EngineConfig) -> PromptFiles | None:
    if config.prompt_dir is None or not config.prompt_bytes:
        return None
    try:
        return PromptFiles(config.prompt_dir, config.prompt_bytes)
    except OSError as error:
        log.warning("%s cannot be used, so no prompts are saved (--prompt-disk): %s", config.prompt_dir, error)
        return None


def serve(core: EngineCore, connection: Connection, outgoing: Outgoing) -> None:
    """Step while there is work, else sleep on the pipe, until Shutdown.

    Raises:
        EOFError: the parent is gone.
        EngineCorrupted: nothing can be computed, or the cache index is inconsistent, so answers might be wrong.
    """
    unchecked = saving = False
    while True:
        rejected: list[StepOutput] = []
        idle = _SAVING_SECONDS if saving else IDLE_SECONDS if unchecked else None
        timeout = 0.0 if core.has_work else _PREPARING_SECONDS if core.is_preparing else idle
        messages = tuple(_messages(connection, timeout))
        if not messages and not core.has_work:
            if core.is_preparing:
                continue
            if saving:
                saving = core.save_prompt()
            elif unchecked:
                _check(core)
                unchecked = False
                outgoing.send(StepReport((), core.stats))
            continue
        unchecked = saving = True
        for message in messages:
            if isinstance(message, Shutdown):
                return
            if isinstance(message, Abort):
                core.abort(message.request_id)
            elif isinstance(message, Pin):
                core.pin(message)
            elif isinstance(message, Submit) and (output := core.submit(message)) is not None:
                rejected.append(output)
        report = core.step() if core.has_work else StepReport((), core.stats)
        outgoing.send(StepReport((*rejected, *report.outputs), core.stats) if rejected else report)


def _check(core: EngineCore) -> None:
    try:
        core.check_integrity()
    except AssertionError as error:
        raise EngineCorrupted(f"the cache index is inconsistent: {error}") from error


def serve_embeddings(core: EmbeddingCore, connection: Connection, outgoing: Outgoing) -> None:
    """The same for an embedding model. Raises EOFError."""
    while True:
        for message in _messages(connection, 0.0 if core.has_work else None):
            if isinstance(message, Shutdown):
                return
            if isinstance(message, Abort):
                core.abort(message.request_id)
            elif isinstance(message, Embed):
                core.submit(message)
        if core.has_work:
            outgoing.send(core.step())


def _messages(connection: Connection, timeout: float | None) -> Iterator[ToWorker]:
    """Everything that lies in the pipe; wait ``timeout`` seconds for the first message, or for ever."""
    while connection.poll(timeout):
        message = connection.recv()
        assert isinstance(message, ToWorker), message
        yield message
        timeout = 0.0
