"""ModelScope, by its HTTP API: the list of a repository's files, and the files.

The library of the hub is not used: of its 23 MB with what it depends on, two requests are needed. Files are kept where
it keeps them, so what one has downloaded the other finds.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from glmserve.bootstrap.hubs.remote import (
    DownloadSink,
    HubError,
    LocalCheckpoint,
    RemoteFile,
    RemoteModel,
    checked_hash,
    needed_files,
)
from glmserve.bootstrap.hubs.transfer import PART_SUFFIX, Transfer, download_all, sha256_of
from glmserve.models.catalog import CATALOG

_ENDPOINT = "https://modelscope.cn"
_MAIN = "master"
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)
_DENIED = (401, 403)
_MISSING = 404


@dataclass(frozen=True, slots=True)
class ModelScope:
    """The hub; see ``ModelHub``. The environment is that of the process, by default."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def folder(self) -> Path:
        """Where checkpoints are downloaded to; ``MODELSCOPE_CACHE`` moves it."""
        return Path(self.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()

    @property
    def endpoint(self) -> str:
        """Address of the hub; ``MODELSCOPE_ENDPOINT`` names another one."""
        given = (self.environ.get("MODELSCOPE_ENDPOINT") or _ENDPOINT).strip().rstrip("/")
        return given if "://" in given else f"https://{given}"

    def look_up(self, repository: str, revision: str | None) -> RemoteModel:
        """Ask the hub for the files of a repository. Raises HubError."""
        with self._as_hub_error(repository), httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            query = {"Revision": revision or _MAIN, "Recursive": "True"}
            reply = client.get(f"{self._address(repository)}/files", params=query, headers=self._headers)
            reply.raise_for_status()
            listed = _files_of(reply.json())
        if listed is None:  # what this hub answers, with status 200
            raise HubError(f"{repository} has no revision {revision or _MAIN}")
        files = needed_files(repository, listed)
        folder = self._folder_of(repository, revision)
        missing = tuple(file for file in files if not _has_size(folder / file.name, file.size))
        return RemoteModel(repository, revision, "", files, missing)

    def download(self, model: RemoteModel, sink: DownloadSink) -> Path:
        """Download missing and damaged files and return the folder of the checkpoint. Raises HubError."""
        folder = self._folder_of(model.repository, model.revision)
        with self._as_hub_error(model.repository):
            wanted = [file for file in model.files if not _is_here(folder / file.name, file, sink)]
            download_all([self._transfer(model, file, folder) for file in wanted], sink)
        return folder

    def find_local(self, repository: str, revision: str | None) -> Path:
        """Return the folder of an earlier download without asking the hub. Raises HubError."""
        folder = self._folder_of(repository, revision)
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise HubError(f"{repository} is not in {self.folder}; pull it without --local-files-only")
        return folder

    def local_checkpoints(self) -> tuple[LocalCheckpoint, ...]:
        """Return the complete checkpoints of known models in the cache of the hub, at the main branch."""
        known = ((entry, self._folder_of(entry.modelscope, None)) for entry in CATALOG if entry.modelscope)
        found = []
        for entry, folder in known:
            files = [path for path in folder.rglob("*") if path.is_file()]
            if (folder / "config.json").is_file() and not any(path.name.endswith(PART_SUFFIX) for path in files):
                found.append(LocalCheckpoint(entry, folder, sum(path.stat().st_size for path in files)))
        return tuple(sorted(found, key=lambda one: one.entry.name))

    def _transfer(self, model: RemoteModel, file: RemoteFile, folder: Path) -> Transfer:
        query = httpx.QueryParams({"Revision": model.revision or _MAIN, "FilePath": file.name})
        url = f"{self._address(model.repository)}?{query}"
        return Transfer(file.name, url, folder / file.name, file.size, file.sha256, self._headers)

    def _address(self, repository: str) -> str:
        return f"{self.endpoint}/api/v1/models/{repository}/repo"

    @property
    def _headers(self) -> Mapping[str, str]:
        token = self.environ.get("MODELSCOPE_API_TOKEN", "")
        # Some of its servers know the one, and some the other.
        return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}

    def _folder_of(self, repository: str, revision: str | None) -> Path:
        """Return the folder of a checkpoint: that of earlier versions of the hub's library where it is there."""
        owner, _, name = repository.partition("/")
        older = Path("models", owner, name.replace(".", "___"))
        if revision is None:
            for folder in (self.folder / older, self.folder / "hub" / older):
                if folder.is_dir():
                    return folder
        return self.folder / "models" / f"{owner}--{name}" / "snapshots" / (revision or _MAIN).replace("/", "--")

    @contextmanager
    def _as_hub_error(self, repository: str) -> Iterator[None]:
        """Translate errors of HTTP to one line each."""
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status in _DENIED:
                raise HubError(
                    f"{repository} is not for callers without a token: set MODELSCOPE_API_TOKEN, from "
                    f"{self.endpoint}/my/myaccesstoken"
                ) from None
            if status == _MISSING:
                raise HubError(f"there is no model {repository} on {self.endpoint}") from None
            raise HubError(self._broken(repository, f"HTTP {status}")) from None
        except (httpx.HTTPError, ValueError) as error:
            raise HubError(self._broken(repository, str(error) or type(error).__name__)) from None

    def _broken(self, repository: str, reason: str) -> str:
        return (
            f"{repository} could not be downloaded from {self.endpoint}: {reason}; try again, name another address "
            "with MODELSCOPE_ENDPOINT, or take it from Hugging Face with --from huggingface"
        )


def _files_of(reply: object) -> list[RemoteFile] | None:
    """Return the files of a list; None where the hub knows no such revision. Raises ValueError."""
    try:
        entries = reply["Data"]["Files"]  # type: ignore[index]
        if entries is None:
            return None
        return [
            RemoteFile(str(entry["Path"]), int(entry["Size"]), checked_hash(str(entry.get("Sha256") or "")))
            for entry in entries
            if entry["Type"] != "tree"
        ]
    except (TypeError, LookupError, AttributeError):
        raise ValueError("its list of files cannot be read") from None


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _is_here(path: Path, file: RemoteFile, sink: DownloadSink) -> bool:
    return _has_size(path, file.size) and (not file.sha256 or sha256_of(path, sink) == file.sha256)
