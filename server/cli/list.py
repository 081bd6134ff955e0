"""``glmserve list``: the models on this machine."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from gguf import LlamaFileType
from rich.console import Console
from rich.table import Table

from glmserve.bootstrap.hubs.huggingface import HuggingFace
from glmserve.bootstrap.hubs.modelscope import ModelScope
from glmserve.cli.machine import find_cached, in_units
from glmserve.cli.options import cache_options, output, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.engine.gguf.gguf_header import HeaderError, Metadata, read_header
from glmserve.engine.gguf.prompt_format import infer_prompt_format

_FITS = 72
"""Columns of a terminal that leave some room for paths."""
_NONE_YET = "no models yet; get one with glmserve pull, or run the embedded one with glmserve serve"
_CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model, an adapter or a prefix on this machine."""

    name: str
    """Argument of `serve`, or for a checkpoint, of `pull`."""
    type: str
    """Of its weights, or "checkpoint" for one that is not converted."""
    size_bytes: int
    family: str
    """Its prompt format; of a file beside a model, "adapter" or "prefix"."""
    path: Path


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@cache_options
def list_models(*, as_json: bool, cache_dir: str | None, config: Path | None) -> None:
    """List the converted models, and the checkpoints of known models in the hub's cache."""
    models = find_models(read_settings((), config, {"cache_dir": cache_dir}).cache_dir)
    if as_json:
        click.echo(json_list(models))
    elif models:
        show(models, output())
    else:
        click.echo(say(_NONE_YET), err=True)


def find_models(cache_dir: Path) -> tuple[ListedModel, ...]:
    """Return the models on this machine, converted ones first."""
    converted = tuple(describe_file(file.path) for file in find_cached(cache_dir))
    checkpoints = tuple(
        ListedModel(found.entry.name, _CHECKPOINT, found.size_bytes, found.entry.prompt_format, found.path)
        for hub in (HuggingFace(), ModelScope())
        for found in hub.local_checkpoints()
    )
    return converted + checkpoints


def json_list(models: Sequence[ListedModel]) -> str:
    """Return ``models`` for programs."""
    return json.dumps([asdict(model) for model in models], indent=2, ensure_ascii=False, default=str)


def describe_file(path: Path) -> ListedModel:
    """Return the description in a GGUF's header; "unreadable" if it cannot be read."""
    size = path.stat().st_size
    try:
        metadata = read_header(path).metadata
    except (HeaderError, OSError):
        return ListedModel(path.stem, "unreadable", size, "", path)
    kind, number = _text(metadata, "general.type"), metadata.get("general.file_type")
    types = {int(member): member.name.removeprefix("MOSTLY_").removeprefix("ALL_").lower() for member in LlamaFileType}
    weights = types.get(number, "") if isinstance(number, int) else kind
    family = infer_prompt_format(metadata).name if kind in ("", "model") else kind
    return ListedModel(_name(path, weights), weights, size, family, path)


def _name(path: Path, weights: str) -> str:
    """Return the name without the type, and without the digests that the files of served folders have."""
    stem = path.name.removesuffix(".gguf").removesuffix(f".{weights}")
    return re.sub(rf"-{re.escape(weights)}-[0-9a-f]{{10}}-[0-9a-f]{{10}}$", "", stem)


def show(models: Sequence[ListedModel], console: Console) -> None:
    """Print a table; in a narrow terminal, a path below each of its rows."""
    if console.width < _FITS:
        for model in models:
            console.print(
                model.name, model.type, in_units(model.size_bytes), model.family, markup=False, highlight=False
            )
            console.print(f"  {model.path}", markup=False, highlight=False, overflow="fold")
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "type", "size", "family"):
        table.add_column(say(column), no_wrap=True)
    table.add_column(say("path"), overflow="fold")
    for model in models:
        table.add_row(model.name, model.type, in_units(model.size_bytes), model.family, str(model.path))
    console.print(table)


def _text(metadata: Metadata, key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""
