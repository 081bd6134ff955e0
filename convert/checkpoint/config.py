"""A checkpoint's ``config.json``, read and checked key by key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from glmserve.convert.checkpoint.foreign_content import START_BYTES, check_start
from glmserve.convert.checkpoint.source_folder import model_name
from glmserve.convert.errors import CorruptFileError, MissingFileError

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
