"""Running the application: uvicorn, and the moment when the model is ready."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import AppStatus

from glmserve.config.schema import Settings
from glmserve.engine.interface import EngineState
from glmserve.generation.generation import cancel_all
from glmserve.http.framing.uvicorn_protocol import bounded_protocol
from glmserve.model_pool.registry import ModelRegistry

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_LAST_WORDS_SECONDS = 2
"""For the ends of requests that did not end by themselves to reach their callers."""
_OTHER_FILES = 64
"""Files and pipes that are open besides connections: about 30 with one model, and 5 for each further one."""
_SETTLED = (EngineState.READY, EngineState.FAILED, EngineState.IDLE, EngineState.UNREACHABLE)


def room_for(connections: int) -> int:
    """Return how many of ``connections`` the system allows, after raising the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            log.warning("the limit of open files is %d (ulimit -n), which allows fewer connections", soft)
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - _OTHER_FILES))


class Server(uvicorn.Server):
    """Uvicorn, telling when each model takes requests, and ending so that every caller gets an end."""

    def __init__(
        self, app: FastAPI, registry: ModelRegistry, settings: Settings, on_settled: Callable[[], None]
    ) -> None:
        """``on_settled`` is called once: each model takes requests, waits for its first one or cannot be served."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # ours says more: server/http/middleware/request_log.py
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_seconds + _LAST_WORDS_SECONDS,
                lifespan="on",
                http=bounded_protocol(
                    settings.stall_seconds, lambda: registry.stopping, room_for(settings.max_connections)
                ),
                ws="none",
            )
        )
        AppStatus.enable_automatic_graceful_drain = False  # it would cut all streams as soon as a signal comes
        self._registry = registry
        self._settings = settings
        self._on_settled = on_settled
        self._watching: asyncio.Task[None] | None = None
        self.never_loaded = ""
        """Why it ended itself: no model can be loaded, for this reason."""
        self.has_given_up = False
        """It ended itself, because every engine failed."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to stop; a second Ctrl-C stops at once.

        In place of uvicorn's own, which ends the process by the same signal in the end: who was asked to stop and did
        so has exit code 0.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer; the models load meanwhile."""
        await super().startup(sockets)
        self._heed_hangup()
        self._watching = asyncio.create_task(self._watch())

    def _heed_hangup(self) -> None:
        """Shut down cleanly when the terminal is closed, unless ``nohup`` ignores the signal."""
        hangup = getattr(signal, "SIGHUP", None)  # not there on Windows
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
            signal.signal(hangup, self.handle_exit)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, give running ones some time, and end the rest in good order."""
        if self._watching is not None:
            await cancel_all((self._watching,))
        await self._drain()
        self._say_what_it_waits_for()
        ending = asyncio.create_task(self._end_late_ones())
        await super().shutdown(sockets)
        await cancel_all((ending,))
        if self.force_exit:
            # Uvicorn leaves it out; the application would then be cancelled, which is logged as a fault.
            await self.lifespan.shutdown()

    def _say_what_it_waits_for(self) -> None:
        running, seconds = len(self.server_state.tasks), self._settings.shutdown_seconds
        if running and seconds and not self.force_exit:
            log.info(
                "stopping; %d request%s may run for %d s more (--shutdown-seconds), a second Ctrl-C ends them now",
                running, "" if running == 1 else "s", seconds,
            )  # fmt: skip

    async def _drain(self) -> None:
        """Answer on while the load balancer notices that this server ends."""
        self._registry.stopping = True
        until = time.monotonic() + self._settings.drain_seconds
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(_POLL_SECONDS)

    async def _end_late_ones(self) -> None:
        """Stop the engines once the time is up: each request then ends with an error of its dialect."""
        seconds = self._settings.shutdown_seconds
        await asyncio.sleep(seconds)
        log.warning("some requests did not finish within %d s (--shutdown-seconds) and are aborted", seconds)
        await self._registry.stop()

    async def _watch(self) -> None:
        while any(model.status.state not in _SETTLED for model in self._registry.models):
            await asyncio.sleep(_POLL_SECONDS)
        # What is there now stays: a collection that looks at it again takes 0.1 s, in which nobody is answered.
        gc.collect()
        gc.freeze()
        self._on_settled()
        statuses = [model.status for model in self._registry.models]
        if all(status.state is EngineState.FAILED for status in statuses):
            self.never_loaded = statuses[0].reason or "no model could be loaded"
            self.should_exit = True
        while not self._registry.has_given_up:
            await asyncio.sleep(_POLL_SECONDS)
        self.has_given_up = self.should_exit = True
