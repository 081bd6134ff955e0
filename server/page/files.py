"""The files of the page, read once, with their HTTP headers."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_STATIC = Path(__file__).with_name("static")
_ENTRY = "index.html"
_VERSION = b"{{version}}"
_SCRIPT = "js/theme.js"
"""The one that is no module."""
_MODULES = b"{{modules}}"
_DIGITS = 16
_MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
    }
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    content: bytes
    packed: bytes
    """The same by gzip."""
    media_type: str
    etag: str
    """Weak, as it stands for both."""


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The page itself, and the files that it loads."""

    version: str
    """Changes with every byte of any file: part of their addresses, so that they may be cached for ever."""
    entry: PageFile
    parts: Mapping[str, PageFile]
    """By path below the folder of the version."""


@cache
def read_page() -> PageFiles:
    """Return the files of the installed package; they do not change while a server runs."""
    contents = {path.relative_to(_STATIC).as_posix(): path.read_bytes() for path in sorted(_paths())}
    version = _digest(repr(contents).encode())
    entry = contents.pop(_ENTRY).replace(_MODULES, _preloading(contents)).replace(_VERSION, version.encode())
    return PageFiles(version, _file(_ENTRY, entry), {name: _file(name, content) for name, content in contents.items()})


def _preloading(names: Iterable[str]) -> bytes:
    """Return preload links for all modules, so that the browser fetches them at once."""
    modules = [name for name in names if name.endswith(".js") and name != _SCRIPT]
    return "\n  ".join(f'<link rel="modulepreload" href="page/{{{{version}}}}/{name}">' for name in modules).encode()


def _paths() -> list[Path]:
    return [path for path in _STATIC.rglob("*") if path.suffix in _MEDIA_TYPES]


def _file(name: str, content: bytes) -> PageFile:
    media_type, etag = _MEDIA_TYPES[Path(name).suffix], f'W/"{_digest(content)}"'
    return PageFile(content, gzip.compress(content, mtime=0), media_type, etag)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
