"""The API side of the engine process: submits, streams, aborts, and starts a fresh process when one dies.

Every submitted request ends exactly once: with a finish reason, or with one exception. The two pipe ends are served
by two threads of the process's own ``WorkerProcess``, because a full pipe would otherwise stop the event loop.
"""

import asyncio
import logging
import weakref
from contextvars import copy_context

from glmserve.engine.child_process import log_record
from glmserve.engine.client.compute_modes import EngineModes
from glmserve.engine.client.frontend import EngineFrontend, Send
from glmserve.engine.client.kernel_choice import KernelTrial
from glmserve.engine.client.output_stream import RequestOutputQueue
from glmserve.engine.client.process import WorkerProcess
from glmserve.engine.client.request_tracker import Siblings
from glmserve.engine.client.supervision import FileWatch, Restarts, Watchdog
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import (
    EngineDied,
    EngineUnavailable,
)
from glmserve.engine.interface import EngineState
from glmserve.engine.messages import (
    Abort,
    Embedded,
    EngineStats,
    FromWorker,
    LoadFailed,
    Logged,
    Pin,
    Ready,
    SelfTesting,
    StepOutput,
    StepReport,
    Submit,
    is_answer,
)
from glmserve.engine.worker.entry import RunnerFactory, load_llama

log = logging.getLogger(__name__)

_KILL_SECONDS = 10.0
"""Time after which a killed process counts as ended, even if the system has not reported it."""


class EngineClient(EngineFrontend):
    """Implements ``glmserve.engine.interface.Engine`` over a child process. Belongs to one event loop."""

    def __init__(
        self, config: EngineConfig, load: RunnerFactory = load_llama, siblings: Siblings | None = None
    ) -> None:
        """Nothing is started yet.

        Args:
            config: what the process gets.
            load: runs in the child and must be importable there.
            siblings: the other engines of the model, if any.
        """
        super().__init__(config)
        self._load = load
        self._siblings = siblings
        self._stats = EngineStats()
        self._process: WorkerProcess | None = None
        self._watchdog = Watchdog(config.step_timeout, self._is_working, self._hung)
        self._files = FileWatch(config)
        self._modes = EngineModes(config, KernelTrial(config).choose)
        self._restarts = Restarts(config.max_restarts)
        self._restarting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def restarts_total(self) -> int:
        """Number of process restarts."""
        return self._restarts.total

    @property
    def resumed_total(self) -> int:
        """How many answers a fresh process went on with."""
        return self._requests.resumed_total

    @property
    def stats(self) -> EngineStats:
        """The latest snapshot."""
        return self._stats

    @property
    def pid(self) -> int | None:
        """Process id of the engine process, if there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start loading; returns at once."""
        if self._life.status.state is EngineState.STOPPED:
            await self._life.set(EngineState.LOADING, "the model is being loaded")
            await self._spawn()

    def _sender(self) -> Send:
        if self._process is None:
            raise EngineUnavailable(self._life.unavailable())
        if not self._requests:
            self._watchdog.start()
        return self._process.send

    def adopt(self, outcomes: RequestOutputQueue) -> bool:
        """Continue a request of another engine, whose process ended; False where this one takes none now."""
        process = self._process
        if process is None or self._life.status.state is not EngineState.READY:
            return False
        if not self._requests:
            self._watchdog.start()
        self._requests.adopt(outcomes, process.send)
        return True

    @property
    def load(self) -> int:
        """How many requests it has."""
        return len(self._requests)

    def _send_pin(self, pin: Pin) -> None:
        if self._life.status.state is EngineState.READY and self._process is not None:
            self._process.send(pin)

    async def stop(self) -> None:
        """End the process; every open stream ends with EngineUnavailable. ``start`` may start a fresh one."""
        process, self._process = self._process, None
        loaded = self._life.status.state is EngineState.READY
        for task in (self._restarting, self._watching):
            if task is not None:
                task.cancel()
        self._restarts.reset()
        await self._end_requests()
        if process is not None:
            try:
                await asyncio.to_thread(process.stop, loaded=loaded)
            except RuntimeError:  # the system gives no thread to wait in
                process.kill()
            log.info("%s was unloaded", self._config.model_path.name)

    def forget(self, request_id: int, finished: bool) -> None:
        """Drop a stream without a reader, and abort its sequence if it still runs."""
        outcomes = self._requests.drop(request_id)
        if self._siblings is not None and outcomes is not None and isinstance(outcomes.request, Submit):
            self._siblings.finished(outcomes.request, outcomes.so_far.token_ids)
        if not finished and self._process is not None:
            self._process.send(Abort(request_id))

    async def _spawn(self) -> None:
        """Start a process. Where the system gives none, that is a failed try like any other."""
        try:
            await self._start_process()
        except Exception as error:
            self._not_started(error)

    async def _start_process(self) -> None:
        if (replaced := await asyncio.to_thread(self._files.replaced)) is not None:
            self._give_up(f"{replaced.name} was replaced since this server was started; restart the server")
            return
        if self._life.status.state is EngineState.STOPPED:
            return
        loop = asyncio.get_running_loop()
        process = WorkerProcess(
            await asyncio.to_thread(self._modes.next_config),
            self._load,
            on_message=lambda sender, message: loop.call_soon_threadsafe(self._receive, sender, message),
            on_end=lambda sender, how: loop.call_soon_threadsafe(self._ended, sender, how),
        )
        process.start()
        self._process = process
        # Held by the timer, a process that has ended would keep its file descriptors for that long.
        loop.call_later(self._config.load_timeout, self._check_loaded, weakref.ref(process))

    def _not_started(self, error: Exception) -> None:
        problem = f"the engine process of {self._config.model_path.name} could not be started: {error}"
        expected = isinstance(error, OSError | MemoryError | RuntimeError)
        log.error("%s", problem, exc_info=None if expected else error)
        if self._life.status.state is not EngineState.STOPPED:
            self._try_again(problem, anyway=True)

    def _check_loaded(self, process: "weakref.ref[WorkerProcess]") -> None:
        started = process()
        if started is not None and started is self._process and self._life.status.state is not EngineState.READY:
            started.kill()
            self._load_failed(f"loading took more than {self._config.load_timeout:g} s (--load-timeout)")

    async def _watch_files(self, process: WorkerProcess) -> None:
        """End ``process`` when its model file is overwritten: its answers would mix both files."""
        overwritten = await self._files.next_overwritten()
        process.kill(f"was killed, as {overwritten.name} was overwritten while it was served")

    def _receive(self, sender: WorkerProcess, message: FromWorker) -> None:
        if isinstance(message, Logged):
            self._log(message)
        elif sender is not self._process:
            return
        elif isinstance(message, StepReport):
            self._deliver(message)
        elif isinstance(message, SelfTesting):
            self._modes.self_testing()
        elif isinstance(message, Ready):
            self._info = message.info
            self._modes.ready(message.info)
            self._loaded(sender)
        elif isinstance(message, LoadFailed):
            self._load_failed(message.reason, computed_wrong=message.self_test)

    def _loaded(self, process: WorkerProcess) -> None:
        self._restarts.loaded()
        for pin in self._pins:
            process.send(pin)  # ahead of every request
        self._requests.send_all(process.send)
        self._life.set_soon(EngineState.READY, "")
        self._watchdog.start()
        self._watching = asyncio.ensure_future(self._watch_files(process))

    def _load_failed(self, reason: str, *, crashed: bool = False, computed_wrong: bool = False) -> None:
        self._process = None
        if crashed or computed_wrong:
            if self._modes.failed(reason, crashed=crashed):
                self._restarting = asyncio.ensure_future(self._spawn())
                return
            reason = self._modes.give_up()
        log.error("%s could not be loaded: %s", self._config.model_path.name, reason)
        self._try_again(reason)

    def _log(self, line: Logged) -> None:
        record = log_record(line, self._config.model_path.name)
        outcomes = None if line.request_id is None else self._requests.get(line.request_id)
        context = copy_context() if outcomes is None else outcomes.context
        context.run(logging.getLogger(line.logger).handle, record)

    def _deliver(self, report: StepReport[StepOutput | Embedded]) -> None:
        self._watchdog.heard()
        self._stats = report.stats or self._stats
        for output in report.outputs:
            if is_answer(output):
                self._restarts.answered()
            if not self._requests.put(output):
                self.forget(output.request_id, False)

    def _is_working(self) -> bool:
        return bool(self._requests) and self._life.status.state is EngineState.READY

    def _hung(self) -> None:
        if (process := self._process) is not None:
            self._requests.spend()  # they have waited long enough, and one of them may be to blame
            how = f"did not end a step within {self._config.step_timeout:g} s (--step-timeout) and was killed"
            process.kill(how)
            asyncio.get_running_loop().call_later(_KILL_SECONDS, self._ended, process, how)

    def _ended(self, sender: WorkerProcess, how: str) -> None:
        """The process has ended: end the requests that cannot be resumed, then start a new process."""
        if sender is not self._process:
            return
        if self._life.status.state is not EngineState.READY and sender.crashed:
            self._load_failed(how, crashed=True)
            return
        self._process = None
        if self._watching is not None:
            self._watching.cancel()
        self._stats = EngineStats()
        file = self._config.model_path.name
        died = EngineDied(f"the engine process {how} while this request ran; it is being restarted, try again")
        open_before = len(self._requests)
        kept = self._requests.end_lost(died)
        lost = open_before - len(kept)
        log.error("the engine process of %s %s; %d requests were lost, %d are sent again", file, how, lost, len(kept))
        if self._siblings is not None:
            self._siblings.emptied()
            kept = self._requests.hand_over(kept, self._siblings.take_over)
        asyncio.get_running_loop().call_later(self._config.restart_wait, self._end_unsent, kept, died)
        # It ended without an error message, so it was killed; if the model was loaded before, it is not to blame.
        self._try_again(f"the engine process of {file} {how}", anyway=self._info is not None)

    def _try_again(self, problem: str, *, anyway: bool = False) -> None:
        """Start a fresh process after ``problem``, unless there have been too many in a row or none that loaded.

        ``anyway``: the problem says nothing of the model, so it is tried even ahead of the first load.
        """
        delay = self._restarts.next_delay(anyway=anyway)
        if delay is None:
            self._give_up(self._restarts.in_words(problem))
            return
        self._life.set_soon(EngineState.RESTARTING, f"{problem}; it is being restarted")
        self._restarting = asyncio.ensure_future(self._restart(delay))

    def _give_up(self, reason: str) -> None:
        if self._restarts.has_loaded:
            log.error("%s accepts no more requests: %s", self._config.model_path.name, reason)
        self._life.set_soon(EngineState.FAILED, reason)
        self._requests.end(EngineDied(f"{reason}; this request was not answered"))

    async def _restart(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._spawn()
