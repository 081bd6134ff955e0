"""Checkpoints on the model hub: the files that a conversion needs, the disk space, and the download.

huggingface_hub does the downloading: a connection that breaks is taken up where it broke, and what a stopped run had
completed is kept, file by file.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, scan_cache_dir, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from glmserve.models.catalog import CatalogEntry, find

_SMALL = re.compile(
    r"(config|generation_config|tokenizer_config|added_tokens|adapter_config)\.json|tokenizer\.model"
    # The code of a checkpoint is read, never run: it tells members of a family apart that its config.json does not.
    r"|(modeling|tokenization)_chatglm\.py"
)
_SAFE = re.compile(r"(model|adapter_model)[^/]*\.safetensors(\.index\.json)?")
_PICKLED = re.compile(r"(pytorch_model|adapter_model)[^/]*\.bin(\.index\.json)?")
_UNAUTHORIZED = 401
_AT_ONCE = 2
"""Files that are downloaded side by side. Few, as a run that is stopped loses those it was at."""


class HubError(Exception):
    """A checkpoint cannot be downloaded from the hub; one line tells the user how to proceed."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A checkpoint on the hub, as of one commit, and the files of it that are needed."""

    repository: str
    revision: str | None
    """As it was asked for; None is the main branch."""
    commit: str
    """The commit of that revision now."""
    files: tuple[RemoteFile, ...]

    @property
    def missing_bytes(self) -> int:
        """Size of the files that are not on this machine yet."""
        return sum(file.size for file in self.files if not self._is_here(file))

    @property
    def weight_bytes(self) -> int:
        """Size of the weights."""
        return sum(file.size for file in self.files if not _SMALL.fullmatch(file.name))

    def _is_here(self, file: RemoteFile) -> bool:
        return isinstance(try_to_load_from_cache(self.repository, file.name, revision=self.commit), str)


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A checkpoint of a known model in the hub's cache."""

    entry: CatalogEntry
    path: Path
    size_bytes: int


def hub_folder() -> Path:
    """Return where checkpoints are downloaded to; ``HF_HOME`` or ``HF_HUB_CACHE`` move it."""
    return Path(constants.HF_HUB_CACHE)


def look_up(repository: str, revision: str | None) -> RemoteModel:
    """Ask the hub for the files of a repository.

    Raises:
        HubError: it is not there, is not for this caller, or is no checkpoint.
    """
    with _told(repository, revision):
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = needed_files([RemoteFile(file.rfilename, file.size or 0) for file in info.siblings or ()])
    if not any(not _SMALL.fullmatch(file.name) for file in files):
        raise HubError(f"{repository} has no weights as safetensors or .bin, so it cannot be converted")
    return RemoteModel(repository, revision, str(info.sha), files)


def needed_files(files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Choose the files that a conversion reads; safetensors where there are any, and never both kinds of weights."""
    weights = [file for file in files if _SAFE.fullmatch(file.name)]
    if not any(file.name.endswith(".safetensors") for file in weights):
        weights = [file for file in files if _PICKLED.fullmatch(file.name)]
    return tuple(file for file in files if _SMALL.fullmatch(file.name)) + tuple(weights)


def download(model: RemoteModel) -> Path:
    """Download missing files, with progress bars, and return the folder of the checkpoint.

    Raises:
        HubError: it cannot be downloaded.
    """
    with _told(model.repository, model.revision):
        names = [file.name for file in model.files]
        folder = snapshot_download(
            model.repository, revision=model.revision, allow_patterns=names, max_workers=_AT_ONCE
        )
    return Path(folder)


def find_local(repository: str, revision: str | None) -> Path:
    """Return the folder of a checkpoint that was downloaded before, without asking the hub.

    Raises:
        HubError: there is none.
    """
    with _told(repository, revision):
        folder = snapshot_download(repository, revision=revision, allow_patterns=["config.json"], local_files_only=True)
    return Path(folder)


def local_checkpoints() -> tuple[LocalCheckpoint, ...]:
    """Return the checkpoints of known models in the hub's cache, the latest revision of each."""
    try:
        repositories = scan_cache_dir(hub_folder()).repos
    except CacheNotFound:
        return ()
    found = []
    for repository in sorted(repositories, key=lambda one: one.repo_id):
        entry = find(repository.repo_id)
        if repository.repo_type == "model" and entry is not None and repository.revisions:
            latest = max(repository.revisions, key=lambda one: one.last_modified)
            found.append(LocalCheckpoint(entry, latest.snapshot_path, latest.size_on_disk))
    return tuple(found)


def check_space(download_bytes: int, output_bytes: int, cache_dir: Path) -> None:
    """Check that the download and the converted file fit on their disks, be that one disk or two.

    Raises:
        HubError: there is too little.
    """
    needs = [(_existing(hub_folder()), download_bytes), (_existing(cache_dir), output_bytes)]
    if needs[0][0].stat().st_dev == needs[1][0].stat().st_dev:
        needs = [(needs[0][0], download_bytes + output_bytes)]
    for folder, needed in needs:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise HubError(
                f"{needed / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} GB are free; make room, or move "
                "the folders with HF_HOME and --cache-dir"
            )


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


@contextlib.contextmanager
def _told(repository: str, revision: str | None) -> Iterator[None]:
    """Translate errors of the hub's client to one line each."""
    try:
        yield
    except GatedRepoError:
        raise HubError(
            f"{repository} is gated: request access on its page, then log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise HubError(f"{repository} has no revision {revision}") from None
    except HfHubHTTPError as error:
        if isinstance(error, RepositoryNotFoundError) or error.response.status_code == _UNAUTHORIZED:
            private = " for callers who are not logged in (`hf auth login`, or HF_TOKEN)"
            allowed = error.response.status_code != _UNAUTHORIZED
            raise HubError(f"there is no model {repository}{'' if allowed else private}") from None
        raise HubError(_broken(repository, error)) from None
    except LocalEntryNotFoundError:
        raise HubError(
            f"{repository} is not in {hub_folder()}, and the hub was not used or did not answer; pull it without "
            "--local-files-only"
        ) from None
    except Exception as error:
        # The client's HTTP library, and with it the type of what a broken connection raises, differs by version.
        raise HubError(_broken(repository, error)) from None


def _broken(repository: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return f"{repository} could not be downloaded from {constants.ENDPOINT}: {reason}; try again"
