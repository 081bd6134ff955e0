"""A checkpoint on a model hub: the files that a conversion needs, and the disk space for them."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from glmserve.models.catalog import CatalogEntry

_SMALL = re.compile(
    r"(config|generation_config|tokenizer_config|tokenizer|added_tokens|adapter_config|modules)\.json|tokenizer\.model"
    r"|chat_template\.jinja"
    # Of embedding models and rerankers: other vocabularies, and how a vector is made of those of the tokens.
    r"|vocab\.txt|sentencepiece\.bpe\.model|[0-9]_Pooling/config\.json"
    # The code of a checkpoint is read, never run: it tells members of a family apart that its config.json does not.
    r"|(modeling|tokenization)_chatglm\.py"
)
_SAFE = re.compile(r"(model|adapter_model)[^/]*\.safetensors(\.index\.json)?")
_HASH = re.compile(r"[0-9a-f]{64}")
_PICKLED = re.compile(r"(pytorch_model|adapter_model)[^/]*\.bin(\.index\.json)?")


class HubError(Exception):
    """A checkpoint cannot be downloaded from its hub; one line tells the user how to proceed."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    size: int
    sha256: str = ""
    """Empty where the hub does not tell it."""

    @property
    def is_weights(self) -> bool:
        """Whether it is one of the large files."""
        return not _SMALL.fullmatch(self.name)


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A checkpoint of a known model in a hub's cache."""

    entry: CatalogEntry
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A checkpoint on a hub as it is now, and the files of it that are needed."""

    repository: str
    revision: str | None
    """As it was asked for; None is the main branch."""
    commit: str
    """The commit of that revision now; empty where the hub does not tell it."""
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]
    """Files that are not on this machine yet."""

    @property
    def missing_bytes(self) -> int:
        """Size of the files that are not on this machine yet."""
        return sum(file.size for file in self.missing)

    @property
    def weight_bytes(self) -> int:
        """Size of the weights."""
        return sum(file.size for file in self.files if file.is_weights)


DownloadSink: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a file, its bytes that are on this machine, and all of them; from any thread."""


class ModelHub(Protocol):
    """A hub, with the folder of this machine into which its own client downloads."""

    @property
    def folder(self) -> Path:
        """Where checkpoints are downloaded to."""

    def look_up(self, repository: str, revision: str | None) -> RemoteModel:
        """Ask the hub for the files of a repository. Raises HubError: it is not there, or is no checkpoint."""

    def download(self, model: RemoteModel, sink: DownloadSink) -> Path:
        """Download missing files and return the folder of the checkpoint. Raises HubError."""

    def find_local(self, repository: str, revision: str | None) -> Path:
        """Return the folder of an earlier download without asking the hub. Raises HubError: there is none."""

    def local_checkpoints(self) -> tuple[LocalCheckpoint, ...]:
        """Return the checkpoints of known models that were downloaded."""


def needed_files(repository: str, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Choose the files that a conversion reads; safetensors where there are any, and never both kinds of weights.

    Raises:
        HubError: there are no weights.
    """
    weights = [file for file in files if _SAFE.fullmatch(file.name)]
    if not any(file.name.endswith(".safetensors") for file in weights):
        weights = [file for file in files if _PICKLED.fullmatch(file.name)]
    if not weights:
        raise HubError(f"{repository} has no weights as safetensors or .bin, so it cannot be converted")
    return tuple(file for file in files if not file.is_weights) + tuple(weights)


def checked_hash(given: str) -> str:
    """Return a SHA-256 as hubs write it; empty where it is none, as it becomes the name of a file."""
    found = given.lower()
    return found if _HASH.fullmatch(found) else ""


def check_space(download: Path, download_bytes: int, output: Path, output_bytes: int) -> None:
    """Check that the download and the converted file fit on the disks of their folders, be that one disk or two.

    Raises:
        HubError: there is too little.
    """
    needs = [(_existing(download), download_bytes), (_existing(output), output_bytes)]
    if needs[0][0].stat().st_dev == needs[1][0].stat().st_dev:
        needs = [(needs[0][0], download_bytes + output_bytes)]
    for folder, needed in needs:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise HubError(
                f"{needed / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} GB are free; make room, or move "
                "the folders with HF_HOME or MODELSCOPE_CACHE, and --cache-dir"
            )


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
