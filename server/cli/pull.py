"""``glmserve pull``: from a model hub to a file that can be served, with the progress of the download."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from glmserve.bootstrap.hubs.huggingface import HuggingFace
from glmserve.bootstrap.hubs.modelscope import ModelScope
from glmserve.bootstrap.hubs.remote import DownloadSink, HubError, ModelHub, check_space
from glmserve.bootstrap.model_source import make_folder
from glmserve.cli.list import describe_file, json_list, show
from glmserve.cli.options import UsageProblem, cache_options, complete_known, output, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.config.values import Hub
from glmserve.convert.cli import DEFAULT_QUANT, QuantChoice, progress_bar
from glmserve.convert.errors import ConvertError
from glmserve.convert.pipeline import convert_checkpoint, kind_of_file, may_be_made_from, usual_quant
from glmserve.convert.quantize.recipes import QuantType
from glmserve.models.catalog import CATALOG, find, why_not

_LINE_SECONDS = 10.0


@contextmanager
def download_progress(total_bytes: int) -> Iterator[DownloadSink]:
    """Show downloads while the block runs; yields the callback for their progress."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as bars:
            yield _Bars(bars)
    else:
        yield _Lines(total_bytes)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip


class _Bars:
    """A bar for each file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:
        with self._lock:
            if name not in self._tasks:
                # What an earlier run left does not count as speed.
                self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
        self._bars.update(self._tasks[name], completed=done)


class _Lines:
    """A line about all files, from time to time."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._done: dict[str, int] = {}
        self._next = time.monotonic() + _LINE_SECONDS
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:
        with self._lock:
            self._done[name] = done
            if time.monotonic() < self._next:
                return
            self._next += _LINE_SECONDS
            have = sum(self._done.values())
        total = max(self._total, have)
        click.echo(
            say("downloaded {have} of {total} GB", have=f"{have / 1e9:.2f}", total=f"{total / 1e9:.2f}"), err=True
        )


# A little more than each type comes to, as shares of 16 bits.
_SHARE: Mapping[QuantType, float] = MappingProxyType(
    {
        QuantType.F32: 2.01, QuantType.F16: 1.01, QuantType.BF16: 1.01, QuantType.Q8_0: 0.55, QuantType.Q6_K: 0.45,
        QuantType.Q5_K_M: 0.4, QuantType.Q5_K_S: 0.4, QuantType.Q5_1: 0.4, QuantType.Q5_0: 0.4,
        QuantType.Q3_K_M: 0.3, QuantType.Q2_K: 0.25,
    }
)  # fmt: skip
_SHARE_OF_FOUR_BITS = 0.35
_HUBS: Mapping[Hub, type[HuggingFace] | type[ModelScope]] = MappingProxyType(
    {Hub.HUGGINGFACE: HuggingFace, Hub.MODELSCOPE: ModelScope}
)
_PART = re.compile(r"\w[\w.-]*")


@click.command()
@click.argument("model", shell_complete=complete_known)
@click.option("-q", "--quant", type=QuantChoice(), default=None, metavar="TYPE",
              help="Type of the weights.  [default: q4_k_m; q8_0 for embedding models and rerankers]",
)  # fmt: skip
@click.option("--from", "hub", type=click.Choice([hub.value for hub in Hub], case_sensitive=False), default=None,
              help="Model hub.  [GLMSERVE_HUB; default: huggingface]")  # fmt: skip
@click.option("--revision", default=None, help="Branch, tag or commit.  [default: the main branch]")
@click.option(
    "--local-files-only", is_flag=True, help="Do not use the network: convert the files that are already downloaded."
)
@click.option("--force", is_flag=True, help="Replace a file that was converted from another checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print the file as JSON, as `list` does.")
@cache_options
def pull(
    *,
    model: str,
    as_json: bool,
    force: bool,
    quant: str | None,
    hub: str | None,
    revision: str | None,
    local_files_only: bool,
    cache_dir: str | None,
    config: Path | None,
) -> None:
    """Download MODEL from a model hub and convert it into the cache for `serve`.

    MODEL is the name of a known model, or OWNER/NAME of any repository with a checkpoint that can be converted. Only
    the necessary files are downloaded, into the hub's own cache. For a private repository the token of `hf auth login`
    or HF_TOKEN is used, on ModelScope MODELSCOPE_API_TOKEN. HF_ENDPOINT names a mirror of Hugging Face.
    """
    asked = QuantType(quant) if quant else None
    settings = read_settings((), config, {"cache_dir": cache_dir, "hub": hub and hub.lower()})
    repository, name = repository_of(model, settings.hub)
    try:
        expected = asked or DEFAULT_QUANT
        checkpoint = _fetch(
            _HUBS[settings.hub](), repository, revision, expected, settings.cache_dir, local_only=local_files_only
        )
        kind = asked or usual_quant(checkpoint)
        out = _convert(checkpoint, settings.cache_dir, name, kind, force=force)
    except (HubError, ConvertError, OSError) as error:
        raise click.ClickException(str(error)) from None
    found = describe_file(out)
    if as_json:
        click.echo(json_list((found,)))
    else:
        show([found], output())
        click.echo(f"glmserve serve {name}")


def expected_bytes(weight_bytes: int, kind: QuantType) -> int:
    """Return about how large weights of 16 bits become."""
    return int(weight_bytes * _SHARE.get(kind, _SHARE_OF_FOUR_BITS))


def repository_of(model: str, hub: Hub = Hub.HUGGINGFACE) -> tuple[str, str]:
    """Return the repository of a MODEL, and the name for its file."""
    entry = find(model)
    if entry is not None and entry.repository:
        return entry.modelscope if hub is Hub.MODELSCOPE else entry.repository, entry.name
    if reason := why_not(model):
        raise UsageProblem(reason)
    owner, _, name = model.partition("/")
    if not (_PART.fullmatch(owner) and _PART.fullmatch(name)):
        known = ", ".join(entry.name for entry in CATALOG if entry.repository)
        raise UsageProblem(f"{model} is not a known model; give OWNER/NAME of a repository, or one of {known}")
    # Somebody's copy of a known model must not take the place of the original.
    return model, f"{owner}-{name}" if find(name) else name


def _fetch(
    hub: ModelHub, repository: str, revision: str | None, kind: QuantType, output_dir: Path, *, local_only: bool
) -> Path:
    """Return the folder of a checkpoint, after downloading its missing files. Raises HubError."""
    if local_only:
        return hub.find_local(repository, revision)
    make_folder(output_dir)
    remote = hub.look_up(repository, revision)
    check_space(hub.folder, remote.missing_bytes, output_dir, expected_bytes(remote.weight_bytes, kind))
    with download_progress(remote.missing_bytes) as sink:
        return hub.download(remote, sink)


def _convert(checkpoint: Path, folder: Path, name: str, kind: QuantType, *, force: bool) -> Path:
    """Convert into the cache, unless that was done since the files were downloaded."""
    out = folder / f"{name}.{kind_of_file(checkpoint, kind)}.gguf"
    downloaded = max(file.stat().st_mtime_ns for file in checkpoint.iterdir())
    if out.is_file() and out.stat().st_mtime_ns > downloaded and may_be_made_from(out, checkpoint, kind):
        click.echo(f"{out} is up to date", err=True)
        return out
    make_folder(folder)
    with progress_bar(Console(stderr=True)) as sink:
        convert_checkpoint(checkpoint, out, kind, sink, force=force)
    return out
