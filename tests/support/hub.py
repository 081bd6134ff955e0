"""A stand-in of both model hubs on a loopback port: what their clients ask of them, and the ways in which they fail.

Hugging Face as huggingface_hub asks it, ModelScope as its library modelscope-hub 0.5.1 does.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

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
    held: dict[str, int] = field(default_factory=dict)
    """Connections for these files bring nothing after so many bytes, until ``released``; once each."""
    released: threading.Event = field(default_factory=threading.Event)
    damaged: dict[str, int] = field(default_factory=dict)
    """These files arrive with another last byte, so many times."""
    ignores_ranges: bool = False
    sent_on_to: str = ""
    """Files are redirected to this server, as hubs do with large ones."""
    tokens: list[str] = field(default_factory=list)
    """What came in as authorisation."""
    listed: object = None
    """What ModelScope answers in place of its list of files."""
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
        path = unquote(urlsplit(self.path).path)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if path.startswith("/api/v1/"):
            self._modelscope(path, query)
        else:
            self._hugging_face(path)

    def _hugging_face(self, path: str) -> None:
        hub = self.stand_in
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

    def _modelscope(self, path: str, query: dict[str, str]) -> None:
        hub, file = self.stand_in, query.get("FilePath", "")
        known = f"/api/v1/models/{hub.repository}/repo"
        asked = f"/{hub.repository}/resolve/{COMMIT}/{file}" if file else path
        hub.asked.append(Asked(self.command, asked, self.headers.get("Range", "")))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._json({"Code": 10990101007, "Message": "access denied", "Success": False}, 403)
        if path == f"{known}/files" and hub.listed is not None:
            return self._json(hub.listed)
        if path == f"{known}/files":
            entries = [{"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0, "Sha256": ""},
                       *({"Path": name, "Name": name, "Type": "blob", "Size": self._size(name),
                          "Sha256": hashlib.sha256(data).hexdigest(), "Revision": COMMIT}
                         for name, data in hub.files.items())]  # fmt: skip
            # Of a revision that it does not know, the hub says this with status 200.
            files = entries if query.get("Revision") in ("master", COMMIT) else None
            return self._json({"Code": 200, "Data": {"Files": files, "LatestCommitter": None}, "Success": True})
        if path == known and file in hub.files:
            return self._file(file)
        return self._json({"Code": 10010205001, "Message": "record not found", "Success": False}, 404)

    def _siblings(self) -> list[dict[str, object]]:
        return [{"rfilename": name, "size": self._size(name), "blobId": _etag(name, data), **self._lfs(name, "sha256")}
                for name, data in self.stand_in.files.items()]  # fmt: skip

    def _entry(self, name: str) -> dict[str, object]:
        return {"type": "file", "path": name, "size": self._size(name),
                "oid": hashlib.sha1(self.stand_in.files[name]).hexdigest(), **self._lfs(name, "oid")}  # fmt: skip

    def _lfs(self, name: str, key: str) -> dict[str, object]:
        if not _is_large(name):
            return {}
        digest = hashlib.sha256(self.stand_in.files[name]).hexdigest()
        return {"lfs": {key: digest, "size": self._size(name), "pointerSize": 134}}

    def _size(self, name: str) -> int:
        return self.stand_in.claimed_sizes.get(name, len(self.stand_in.files[name]))

    def _json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
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
        hub, data = self.stand_in, self.stand_in.files[name]
        hub.tokens += [self.headers.get("Authorization", ""), self.headers.get("Cookie", "")]
        if hub.sent_on_to:
            self.send_response(302)
            self.send_header("Location", hub.sent_on_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        ranged = "Range" in self.headers and not hub.ignores_ranges
        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("ETag", f'"{_etag(name, data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.damaged.get(name, 0):
            hub.damaged[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        if (held := hub.held.pop(name, None)) is not None:
            self.wfile.write(data[start:held])
            self.wfile.flush()
            hub.released.wait(60)
            start = held
        end = hub.cut.pop(name, len(data))
        with contextlib.suppress(OSError):
            self.wfile.write(data[start:end])
        if end < len(data):
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".model"))


def _etag(name: str, data: bytes) -> str:
    return (hashlib.sha256 if _is_large(name) else hashlib.sha1)(data).hexdigest()
