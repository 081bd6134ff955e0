"""A reverse proxy before several servers, as nginx or Caddy is set up for a rolling restart."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

_CHECK_SECONDS = 0.1
_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


class ReverseProxy:
    """Gives each request to the next server whose /health says 200, and to another one where no connection is made.

    It keeps connections to the servers open, and never sends a request twice that a server may have begun with.
    """

    def __init__(self, servers: list[str]) -> None:
        """``servers`` are addresses."""
        self.served: Counter[str] = Counter()
        """How many requests each has got."""
        self._servers = servers
        self._healthy: set[str] = set()
        self._turn = count()
        self._http = httpx.AsyncClient(timeout=60)
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.add_route("/{path:path}", self._forward, methods=["GET", "POST"])

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self._check()
        checking = asyncio.create_task(self._keep_checking())
        yield
        checking.cancel()
        await self._http.aclose()

    async def _keep_checking(self) -> None:
        while True:
            await self._check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def _check(self) -> None:
        async with httpx.AsyncClient(timeout=2) as http:
            for server in self._servers:
                try:
                    is_healthy = (await http.get(f"{server}/health")).status_code == 200
                except httpx.TransportError:
                    is_healthy = False
                (self._healthy.add if is_healthy else self._healthy.discard)(server)

    async def _forward(self, request: Request) -> Response:
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        while True:
            server = self._next()
            sent = self._http.build_request(request.method, server + request.url.path, headers=headers, content=body)
            try:
                reply = await self._http.send(sent, stream=True)
            except httpx.ConnectError:
                self._healthy.discard(server)
                continue
            self.served[server] += 1
            kept = {name: value for name, value in reply.headers.items() if name not in _HOP}
            return StreamingResponse(_relayed(reply), reply.status_code, kept)

    def _next(self) -> str:
        healthy = sorted(self._healthy)
        assert healthy, "no server is healthy"
        return healthy[next(self._turn) % len(healthy)]


async def _relayed(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in reply.aiter_raw():
            yield part
    finally:
        await reply.aclose()
