"""Running the application: the socket, uvicorn, and the moment when the model is ready."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import uvicorn

from server.assembly import Assembly
from server.engine.interface import EngineState
from server.http.protocol import BoundedProtocol
from server.settings import Settings

_POLL_SECONDS = 0.05
_SETTLED = (EngineState.READY, EngineState.FAILED, EngineState.IDLE)


class AddressError(Exception):
    """The server cannot listen where it was told to."""


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket, made before anything else so that a taken port shows at once.

    It does not listen yet: while a checkpoint is converted, callers are turned away rather than kept waiting.

    Raises:
        AddressError: the port is taken, or the address is not one of this machine.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        # A name that cannot be resolved has no errno of its own.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise AddressError(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host"
        ) from None
    return bound


def base_url(listener: socket.socket) -> str:
    """Return the address a caller on this machine uses."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn, telling when each model takes requests, waits for its first one or cannot be served."""

    def __init__(self, assembly: Assembly, settings: Settings, on_settled: Callable[[], None]) -> None:
        """``on_settled`` is called once."""
        super().__init__(
            uvicorn.Config(
                assembly.app,
                log_config=None,
                access_log=settings.access_log,
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_seconds,
                lifespan="on",
                http=BoundedProtocol,
            )
        )
        self._registry = assembly.registry
        self._on_settled = on_settled
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer; the models load meanwhile."""
        await super().startup(sockets)
        self._watching = asyncio.create_task(self._watch())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, and give those that run some time."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await super().shutdown(sockets)

    async def _watch(self) -> None:
        while any(model.status.state not in _SETTLED for model in self._registry.models):
            await asyncio.sleep(_POLL_SECONDS)
        self._on_settled()
