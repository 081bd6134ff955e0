"""``glmserve batch``: a file of requests answered by a running server; an interrupted command waits again."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import click
import httpx
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from glmserve.cli.client import ServerCallError, checked, server_client
from glmserve.cli.options import DEFAULT_URL, UsageProblem, client_key
from glmserve.cli.texts.chinese import say
from glmserve.convert.atomic_file import check_regular, complete_file, is_stdout, is_stream, stream
from glmserve.convert.cli import output_path
from glmserve.convert.errors import OutputError

_DIGEST = "input_sha256"
"""Field of the metadata by which a batch is found again."""
_POLL_S = (0.2, 5.0)
"""Shortest and longest time between two looks at a batch."""
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LOST = frozenset({"failed", "expired", "cancelled", "cancelling"})
"""States of a batch that is not waited for again: a new one is created."""
_SAFE_BYTES = 1 << 16


class _Counts(BaseModel):
    total: int = 0
    completed: int = 0
    failed: int = 0


class _Problem(BaseModel):
    message: str
    line: int | None = None


class _Problems(BaseModel):
    data: list[_Problem]


class BatchState(BaseModel):
    """A batch as the server tells it."""

    id: str
    status: str
    request_counts: _Counts = _Counts()
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Problems | None = None
    metadata: Mapping[str, str] | None = None
    endpoint: str = ""

    @property
    def done(self) -> int:
        """Lines that were answered or failed."""
        return self.request_counts.completed + self.request_counts.failed


class _Listed(BaseModel):
    data: list[BatchState]


class BatchClient:
    """The batches of one server."""

    def __init__(self, url: str, key: str) -> None:
        """``url`` is the address of the server, with or without ``/v1``; ``key`` an API key, or empty."""
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._http = server_client(self._url, key)

    def find(self, digest: str, endpoint: str) -> BatchState | None:
        """Return the newest batch of the same input that has not failed."""
        listed = _parsed(_Listed, self._call("GET", "/batches", params={"limit": "100"})).data
        return next(
            (
                batch
                for batch in listed
                if (batch.metadata or {}).get(_DIGEST) == digest
                and batch.endpoint == endpoint
                and batch.status not in _LOST
            ),
            None,
        )

    def create(self, name: str, content: bytes, endpoint: str, window: str) -> BatchState:
        """Upload an input and create its batch."""
        sent = self._call("POST", "/files", data={"purpose": "batch"}, files={"file": (name, content)})
        body = {
            "input_file_id": json.loads(sent)["id"],
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": {_DIGEST: digest_of(content)},
        }
        return _parsed(BatchState, self._call("POST", "/batches", json=body))

    def state(self, batch_id: str) -> BatchState:
        """Return a batch as it is now."""
        return _parsed(BatchState, self._call("GET", f"/batches/{batch_id}"))

    def cancel(self, batch_id: str) -> BatchState:
        """Cancel a batch."""
        return _parsed(BatchState, self._call("POST", f"/batches/{batch_id}/cancel"))

    def lines(self, file_id: str | None) -> Iterator[bytes]:
        """Yield the lines of a file, each with its end; none for None."""
        if file_id is None:
            return
        rest = b""
        try:
            with self._http.stream("GET", f"{self._url}/files/{file_id}/content") as reply:
                if reply.is_error:
                    reply.read()
                for chunk in checked(reply).iter_bytes(_SAFE_BYTES):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line + b"\n" for line in whole)
        except httpx.HTTPError as error:
            raise ServerCallError(f"the connection to {self._url} was lost ({error})") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> bytes:
        try:
            reply = self._http.request(method, self._url + path, params=params, json=json, data=data, files=files)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerCallError(
                f"no server answers at {self._url} ({error}); start one with glmserve serve"
            ) from error
        return checked(reply).content


_Model = TypeVar("_Model", bound=BaseModel)


def _parsed(kind: type[_Model], text: bytes) -> _Model:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ServerCallError("the server has no batches: no glmserve server, or an older version") from error


def digest_of(content: bytes) -> str:
    """Return the name by which an input is known."""
    return hashlib.sha256(content).hexdigest()


class _Rate(ProgressColumn):
    """Lines per second."""

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


def wait(client: BatchClient, batch: BatchState) -> BatchState:
    """Show the progress of a batch until it has ended, and return it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task(say(batch.status), total=None)
        pause, longest = _POLL_S
        while batch.status not in _ENDED:
            time.sleep(pause)
            pause = min(longest, pause * 1.2)
            batch = client.state(batch.id)
            total = batch.request_counts.total or None
            progress.update(shown, description=say(batch.status), completed=batch.done, total=total)
    return batch


def answered(client: BatchClient, name: str, content: bytes, endpoint: str, window: str, *, again: bool) -> BatchState:
    """Return the ended batch of an input: of an earlier call, unless ``again``, or a new one.

    Raises:
        ServerCallError: the server rejects it, or the input has faults.
    """
    batch = None if again else client.find(digest_of(content), endpoint)
    if batch is not None:
        click.echo(say("continuing {batch}, which this input has already", batch=batch.id), err=True)
    else:
        batch = client.create(name, content, endpoint, window)
    try:
        batch = wait(client, batch)
    except KeyboardInterrupt:
        told = say("{batch} continues on the server; the same command waits for it again", batch=batch.id)
        click.echo(f"\n{told}", err=True)
        raise
    if batch.status == "failed":
        problems = batch.errors.data if batch.errors else []
        faults = (f"  line {one.line}: {one.message}" if one.line else f"  {one.message}" for one in problems[:10])
        raise ServerCallError("\n".join(("the input has faults:", *faults)))
    return batch


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(), default=None,
    help="File to write, folder for it, or - for standard output.  [default: FILE with .output.jsonl]")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace output files that exist.")
@click.option("--again", is_flag=True, help="Begin a new batch, although there is one of the same input.")
@click.option("--cancel", is_flag=True, help="Cancel the batch of FILE, and keep what was answered.")
@click.option("--window", default="24h", show_default=True, help="Time for the whole batch: N with s, m, h or d.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="URL of the running server.")
@click.option("--api-key", multiple=True, metavar="KEY", help="Key for the server.  [env: GLMSERVE_API_KEY]")
def batch(
    *,
    file: Path,
    output: str | None,
    force: bool,
    again: bool,
    cancel: bool,
    window: str,
    url: str,
    api_key: tuple[str, ...],
) -> None:
    """Have a server answer the requests of FILE, one a line, when it has nothing else to do.

    The lines are those of OpenAI's batches. The output file gets the answers; a file with .errors.jsonl the requests
    that failed. A command that was interrupted waits for the same batch when it is called again.
    """
    content = file.read_bytes()
    endpoint = _endpoint(content, file)
    target, errors = _outputs(file, output)
    if not cancel:
        _check_outputs((target, errors), file, force=force)
    with closing(BatchClient(url, client_key(api_key))) as client:
        try:
            if cancel:
                _cancel(client, content, endpoint)
                return
            ended = answered(client, file.name, content, endpoint, window, again=again)
            _write(client.lines(ended.output_file_id), target)
            if ended.error_file_id is not None:
                _write(client.lines(ended.error_file_id), errors)
            else:
                errors.unlink(missing_ok=True)  # of an earlier call
        except (ServerCallError, OutputError) as error:
            raise click.ClickException(str(error)) from None
    counts = ended.request_counts
    told = say("{status}: {answered} answered, {failed} failed, of {total}", status=say(ended.status),
               answered=counts.completed, failed=counts.failed, total=counts.total)  # fmt: skip
    click.echo(told, err=True)
    if ended.status != "completed" or counts.failed:
        raise click.ClickException(f"some lines have no answer; {errors} has them")


def _endpoint(content: bytes, file: Path) -> str:
    first = next((line for line in content.splitlines() if line.strip()), b"")
    try:
        return str(json.loads(first)["url"])
    except (ValueError, LookupError, TypeError):
        raise UsageProblem(f"{file}: the first line is no request with a url, as batches have them") from None


def _cancel(client: BatchClient, content: bytes, endpoint: str) -> None:
    found = client.find(digest_of(content), endpoint)
    if found is None or found.status in _ENDED:
        raise ServerCallError("no batch of this input is running")
    click.echo(say("{batch} is being cancelled", batch=client.cancel(found.id).id), err=True)


def _outputs(file: Path, given: str | None) -> tuple[Path, Path]:
    """Return the files of the answers and of the requests that failed. Raises UsageError."""
    beside = file.with_suffix(".output.jsonl")
    target = output_path(given, beside.name) if given else beside
    named = file if is_stream(target) else target
    errors = named.with_name(f"{named.name.removesuffix('.jsonl').removesuffix('.output')}.errors.jsonl")
    return target, errors


def _check_outputs(paths: Iterable[Path], file: Path, *, force: bool) -> None:
    """Check, before the work, that nothing but an earlier output is replaced, and that with --force only.

    Raises:
        UsageProblem: one of them may not; the message says why.
    """
    for path in paths:
        if is_stream(path):
            continue
        try:
            check_regular(path)
            if not path.parent.is_dir():
                raise UsageProblem(f"{path.parent} is not a folder; create it first")
            if path.exists() and path.samefile(file):
                raise UsageProblem(f"{path} is the input; choose another name")
            if path.exists() and not force:
                raise UsageProblem(f"{path} exists; remove it, or give --force")
        except OutputError as error:
            raise UsageProblem(str(error)) from None
        except OSError as error:
            raise UsageProblem(f"{path} cannot be written: {error.strerror}") from None


def _write(lines: Iterator[bytes], target: Path) -> None:
    """Write a file that is there whole or not at all, or a stream. Raises OutputError."""
    if is_stdout(target):
        for line in lines:
            click.echo(line, nl=False)
        return
    with stream(target) if is_stream(target) else complete_file(target, 0) as sink:
        sink.writelines(lines)
