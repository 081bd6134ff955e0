"""A checkpoint's folder, its ``config.json`` read and checked key by key, and files that are something else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from glmserve.convert.errors import CorruptFileError, MissingFileError, UnsupportedFileError, UnsupportedModelError

START_BYTES = 64
"""Number of leading bytes that identify the file."""

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<!--")


def check_start(path: Path, start: bytes) -> None:
    """Reject a file whose first bytes show that it is no part of a checkpoint.

    Raises:
        UnsupportedFileError: it is a pointer of Git LFS.
        CorruptFileError: it is a web page.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        raise UnsupportedFileError(path, "is only a pointer of Git LFS; get the file itself with git lfs pull")
    if text.lower().startswith(_PAGES):
        raise CorruptFileError(path, "it is a web page (HTML), such as the error page of a download")


def check_file(path: Path) -> None:
    """Look at the start of a file; raises as ``check_start`` does, and OSError."""
    with path.open("rb") as file:
        check_start(path, file.read(START_BYTES))


_CONFIGS = ("config.json", "adapter_config.json")
_CACHED = "models--"
_SNAPSHOTS = "snapshots"
_STEP = "checkpoint-"
"""Prefix of the folders that a trainer saves to."""


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder has the configuration of a model or of an adapter."""
    return any((folder / name).exists() for name in _CONFIGS)


def find_checkpoint(folder: Path) -> Path:
    """Return ``folder``, or the only checkpoint below it: of a hub's cache, or of a training's output folder.

    Where there is none, that is told when its configuration is read.

    Raises:
        UnsupportedModelError: there are several.
    """
    if is_checkpoint(folder) or not folder.is_dir():
        return folder
    if (folder / _SNAPSHOTS).is_dir():
        return _snapshot(folder)
    found = sorted((one for one in folder.iterdir() if one.is_dir() and is_checkpoint(one)), key=_order)
    if len(found) > 1:
        raise UnsupportedModelError(
            folder, f"holds {len(found)} checkpoints; name one of them: {', '.join(one.name for one in found[:20])}"
        )
    return found[0] if found else folder


def model_name(folder: Path) -> str:
    """Return the name of a model in ``folder``; a hub's cache or a training run has it in the folder above."""
    path = folder.resolve()
    repository = path.parent.parent.name
    if path.parent.name == _SNAPSHOTS and repository.startswith(_CACHED):
        return repository.rpartition("--")[2]
    if path.name.startswith(_CACHED):
        return path.name.rpartition("--")[2]
    if path.name.startswith(_STEP) and path.parent.name:
        return f"{path.parent.name}-{path.name}"
    return path.name


def _snapshot(repository: Path) -> Path:
    """Return the folder of the main branch, as the hub's own client finds it, or of the only commit."""
    try:
        named = (repository / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        named = ""
    snapshots = sorted(one for one in (repository / _SNAPSHOTS).iterdir() if one.is_dir())
    chosen = [one for one in snapshots if one.name == named] or snapshots
    if len(chosen) > 1:
        raise UnsupportedModelError(
            repository, f"holds {len(chosen)} snapshots, and refs/main names none of them; name the folder of one"
        )
    return chosen[0] if chosen else repository


def _order(folder: Path) -> tuple[int, str]:
    step = folder.name.removeprefix(_STEP)
    return (int(step) if step.isdecimal() else 0, folder.name)


MOST_LAYERS = 512
"""LLAMA_MAX_LAYERS of the vendored llama.cpp."""

_MOST_BYTES = 32 << 20
"""Of a JSON file; the index of the largest checkpoint has some megabytes."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The JSON object, and where it is from."""

    path: Path
    raw: Mapping[str, object]

    @property
    def folder(self) -> Path:
        """The checkpoint's folder."""
        return self.path.parent

    @property
    def model_type(self) -> str:
        """``model_type`` of transformers; empty where config.json has none."""
        return self.text("model_type")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Class names of the authors' code."""
        listed = self.raw.get("architectures")
        return tuple(str(name) for name in listed) if isinstance(listed, list) else ()

    @property
    def original_name(self) -> str:
        """``_name_or_path``: a repository or a local path; empty where config.json has none."""
        return self.text("_name_or_path")

    @property
    def name(self) -> str:
        """A name for people. Of a path only the last part is one."""
        return self.original_name.rstrip("/").rpartition("/")[2] or model_name(self.folder)

    def text(self, key: str) -> str:
        """Return a string, or an empty one if the key is absent."""
        value = self.raw.get(key)
        return value if isinstance(value, str) else ""

    def positive_int(self, key: str, most: int = 1 << 20) -> int:
        """Return a positive whole number; raises CorruptFileError where it is none, or more than any model has."""
        value = self.raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            shown = repr(value)[:80]
            raise CorruptFileError(self.path, f"{key} is {shown} and must be a positive whole number up to {most}")
        return value

    def positive_number(self, key: str) -> float:
        """Return a positive number; raises CorruptFileError where it is none."""
        value = self.raw.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < inf:
            raise CorruptFileError(self.path, f"{key} is {repr(value)[:80]} and must be a positive number")
        return float(value)


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a small file.

    Raises:
        CorruptFileError: it is no file but a device or a pipe, has more than ``most`` bytes, or is a web page.
        UnsupportedFileError: it is a pointer of Git LFS.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise CorruptFileError(path, "it is no regular file")
    if path.stat().st_size > most:
        raise CorruptFileError(path, f"it has more than {most:,} bytes")
    data = path.read_bytes()
    check_start(path, data[:START_BYTES])
    return data


def read_json_object(path: Path, advice: str) -> Mapping[str, object]:
    """Read a JSON object.

    Raises:
        MissingFileError: there is no such file; ``advice`` says what to do.
        CorruptFileError: it is not a JSON object.
    """
    raw = _read_json(path, advice)
    if not isinstance(raw, dict):
        raise CorruptFileError(path, "it is not a JSON object")
    return raw


def read_json_list(path: Path) -> list[object]:
    """Read a JSON array that is there; raises CorruptFileError where it is none."""
    raw = _read_json(path, "download it")
    if not isinstance(raw, list):
        raise CorruptFileError(path, "it is not a JSON array")
    return raw


def _read_json(path: Path, advice: str) -> object:
    try:
        raw: object = json.loads(read_file(path, _MOST_BYTES).decode("utf-8-sig"))
        return raw
    except FileNotFoundError as error:
        raise MissingFileError(path, advice) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(path, f"it is not JSON ({error})") from error


def load_config(folder: Path) -> ConfigFile:
    """Read ``config.json`` of a checkpoint folder; raises MissingFileError, CorruptFileError."""
    path = folder / "config.json"
    advice = "SOURCE must be the folder of a checkpoint in Hugging Face's layout"
    return ConfigFile(path, read_json_object(path, advice))
