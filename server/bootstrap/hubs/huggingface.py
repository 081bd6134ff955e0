"""Hugging Face, and its mirrors (``HF_ENDPOINT``).

huggingface_hub lists, authorises and keeps the files in its cache. The large ones are put there beforehand: its own
download of a file begins anew in each run, and is not checked by the file's hash.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    hf_hub_url,
    scan_cache_dir,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.tqdm import disable_progress_bars

from glmserve.bootstrap.hubs.remote import (
    DownloadSink,
    HubError,
    LocalCheckpoint,
    RemoteFile,
    RemoteModel,
    checked_hash,
    needed_files,
)
from glmserve.bootstrap.hubs.transfer import Transfer, download_all
from glmserve.models.catalog import find

_UNAUTHORIZED = 401
_SECONDS = 30.0
"""For the hub's list of files."""


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """The hub; see ``ModelHub``."""

    @property
    def folder(self) -> Path:
        """Where checkpoints are downloaded to; ``HF_HOME`` or ``HF_HUB_CACHE`` move it."""
        return Path(constants.HF_HUB_CACHE)

    def look_up(self, repository: str, revision: str | None) -> RemoteModel:
        """Ask the hub for the files of a repository. Raises HubError."""
        repository = self._kept_under(repository)
        with _as_hub_error(repository, revision):
            info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_SECONDS)
        listed = [
            RemoteFile(file.rfilename, file.size or 0, checked_hash(file.lfs.sha256 if file.lfs else ""))
            for file in info.siblings or ()
        ]
        files, commit = needed_files(repository, listed), str(info.sha)
        missing = tuple(file for file in files if not _is_here(repository, commit, file))
        return RemoteModel(repository, revision, commit, files, missing)

    def download(self, model: RemoteModel, sink: DownloadSink) -> Path:
        """Download missing files and return the folder of the checkpoint. Raises HubError."""
        blobs = self.folder / repo_folder_name(repo_id=model.repository, repo_type="model") / "blobs"
        with _as_hub_error(model.repository, model.revision):
            token = get_token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            large = [
                Transfer(
                    file.name, hf_hub_url(model.repository, file.name, revision=model.commit), blobs / file.sha256,
                    file.size, file.sha256, headers,
                )
                for file in model.missing if file.sha256
            ]  # fmt: skip
            download_all(large, sink)
            disable_progress_bars()  # of the small files that are left
            names = [file.name for file in model.files]
            return Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=names))

    def find_local(self, repository: str, revision: str | None) -> Path:
        """Return the folder of an earlier download without asking the hub. Raises HubError."""
        repository = self._kept_under(repository)
        with _as_hub_error(repository, revision):
            folder = snapshot_download(
                repository, revision=revision, allow_patterns=["config.json"], local_files_only=True
            )
        return Path(folder)

    def local_checkpoints(self) -> tuple[LocalCheckpoint, ...]:
        """Return the checkpoints of known models in the hub's cache, the latest revision of each."""
        try:
            repositories = scan_cache_dir(self.folder).repos
        except CacheNotFound:
            return ()
        found = []
        for repository in sorted(repositories, key=lambda one: one.repo_id):
            entry = find(repository.repo_id)
            if repository.repo_type == "model" and entry is not None and repository.revisions:
                latest = max(repository.revisions, key=lambda one: one.last_modified)
                found.append(LocalCheckpoint(entry, latest.snapshot_path, latest.size_on_disk))
        return tuple(found)

    def _kept_under(self, repository: str) -> str:
        """Return the former name of a repository where it was downloaded under that; the hub redirects it."""
        entry = find(repository)
        names = (entry.repository, entry.former) if entry and repository != entry.modelscope else (repository,)
        here = (name for name in names if name and self._has(name))
        return next(here, repository)

    def _has(self, repository: str) -> bool:
        return (self.folder / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots").is_dir()


def _is_here(repository: str, commit: str, file: RemoteFile) -> bool:
    return isinstance(try_to_load_from_cache(repository, file.name, revision=commit), str)


@contextlib.contextmanager
def _as_hub_error(repository: str, revision: str | None) -> Iterator[None]:
    """Translate errors of the hub's client to one line each."""
    try:
        yield
    except HubError:
        raise
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
            f"{repository} is not in {constants.HF_HUB_CACHE}, and the hub was not used or did not answer; pull it "
            "without --local-files-only"
        ) from None
    except Exception as error:
        # The client's HTTP library, and with it the type of what a broken connection raises, differs by version.
        raise HubError(_broken(repository, error)) from None


def _broken(repository: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return (
        f"{repository} could not be downloaded from {constants.ENDPOINT}: {reason}; try again, name a mirror with "
        "HF_ENDPOINT, or take it from ModelScope with --from modelscope"
    )
