"""A proxy of TCP connections before several servers, as a load balancer without a look into the requests is."""

import socket
import threading
from collections import Counter
from contextlib import suppress
from types import TracebackType

import httpx


class TcpProxy:
    """Gives each new connection to the first server whose /health says 200."""

    def __init__(self, servers: list[str]) -> None:
        """``servers`` are addresses, the preferred one first."""
        self._servers = servers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.served: Counter[str] = Counter()
        """How many connections each has got."""
        self._clients: list[socket.socket] = []

    def __enter__(self) -> "TcpProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def cut(self) -> None:
        """Break all connections there are, as a network does."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        url = next(url for url in self._servers if _is_healthy(url))
        self.served[url] += 1
        host, port = url.removeprefix("http://").split(":")
        with client, socket.create_connection((host, int(port))) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
