"""A stand-in of the model hub on a loopback port: what huggingface_hub asks of it, and the ways in which it fails."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    range: str


@dataclass
class StandIn:
    """One repository, and what befalls those who ask for it."""

    repository: str
    files: dict[str, bytes]
    token: str = ""
    """Without it there is nothing to be seen here."""
    cut: dict[str, int] = field(default_factory=dict)
    """Connections for these files are cut after so many bytes, once each."""
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    """What the list says instead of the true sizes."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def downloaded(self) -> list[str]:
        """The files that were asked for, each once."""
        marker = f"/resolve/{COMMIT}/"
        return sorted(
            {one.path.partition(marker)[2] for one in self.asked if one.method == "GET" and marker in one.path}
        )

    def ranges(self, file: str) -> list[str]:
        return [one.range for one in self.asked if one.method == "GET" and one.path.endswith(f"/{file}")]


def read_folder(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@contextlib.contextmanager
def running(hub: StandIn) -> Iterator[StandIn]:
    """Serve ``hub`` while the block runs."""

    class Handler(_Handler):
        stand_in = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.stand_in, unquote(urlsplit(self.path).path)
        hub.asked.append(Asked(self.command, path, self.headers.get("Range", "")))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "RepoNotFound", "Repository not found")
        api, files = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            return self._json({"id": hub.repository, "sha": COMMIT, "siblings": self._siblings()})
        if path == f"{api}/tree/{COMMIT}":
            return self._json([self._entry(name) for name in hub.files])
        if path.startswith(files) and path.removeprefix(files) in hub.files:
            return self._file(path.removeprefix(files))
        if path.startswith(f"{api}/revision/"):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        return self._refuse(404, "RepoNotFound", "Repository not found")

    def _siblings(self) -> list[dict[str, object]]:
        return [{"rfilename": name, "size": self._size(name), "blobId": _etag(data)}
                for name, data in self.stand_in.files.items()]  # fmt: skip

    def _entry(self, name: str) -> dict[str, object]:
        return {"type": "file", "path": name, "size": self._size(name), "oid": _etag(self.stand_in.files[name])}

    def _size(self, name: str) -> int:
        return self.stand_in.claimed_sizes.get(name, len(self.stand_in.files[name]))

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, name: str) -> None:
        data = self.stand_in.files[name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        end = self.stand_in.cut.pop(name, len(data))
        self.wfile.write(data[start:end])
        if end < len(data):
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
