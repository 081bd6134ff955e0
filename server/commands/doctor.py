"""``glmserve doctor``: what was found on this machine, and what would be done with a model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console

from server.commands.doctor_page import show
from server.commands.machine import (
    CachedFile,
    Machine,
    Probe,
    Versions,
    find_cached,
    find_machine,
    find_versions,
    probe,
)
from server.commands.options import read_settings, settings_options
from server.engine.errors import ModelLoadError
from server.engine.gguf_check import ModelFacts, check_gguf
from server.engine_settings import engine_config
from server.settings import Settings
from server.sources import ModelSource, UnknownModelError, find_source


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What MODEL is. ``facts`` is None where the file is not there yet or cannot be served."""

    name: str
    gguf: Path | None = None
    state: str = ""
    """One line."""
    usable: bool = True
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that doctor says."""

    versions: Versions
    machine: Machine
    cache_dir: Path
    files: tuple[CachedFile, ...]
    model: ModelReport
    probe: Probe

    @property
    def healthy(self) -> bool:
        """Whether the model can be served."""
        return self.model.usable and not self.probe.problem

    @property
    def cache_bytes(self) -> int:
        """Memory of the KV cache that the model would get; 0 where that is not known."""
        if self.model.facts is None or self.probe.placement is None:
            return 0
        return self.model.facts.kv_bytes_per_token * self.probe.placement.cache_cells


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
def doctor(model: str | None, as_json: bool, config: Path | None, **flags: object) -> None:
    """Show the build, the devices and the model files, and what `serve MODEL` would do with these settings.

    Ends with status 1 where MODEL (by default the embedded one) could not be served.
    """
    report = examine(read_settings(model, config, flags))
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False, default=str))
    else:
        show(report, Console())
    if not report.healthy:
        raise SystemExit(1)


def examine(settings: Settings) -> Report:
    """Look at everything; loads no model and changes nothing."""
    try:
        source = find_source(settings.model, settings.quant, settings.cache_dir)
    except UnknownModelError as error:
        model, engine = ModelReport(settings.model, state=str(error), usable=False), None
    else:
        model = _look_at(source)
        engine = engine_config(settings, source, model.facts) if model.facts else None
    return Report(
        versions=find_versions(),
        machine=find_machine(),
        cache_dir=settings.cache_dir,
        files=find_cached(settings.cache_dir),
        model=model,
        probe=probe(engine, model.facts),
    )


def to_json(report: Report) -> dict[str, object]:
    """Return the report for programs."""
    return {**asdict(report), "healthy": report.healthy, "cache_bytes": report.cache_bytes}


def _look_at(source: ModelSource) -> ModelReport:
    if source.needs_conversion and source.quant is not None:
        state = f"{source.checkpoint} is converted to {source.quant.value} when it is served first"
        return ModelReport(source.name, source.gguf, state)
    try:
        facts = check_gguf(source.gguf)
    except ModelLoadError as error:
        return ModelReport(source.name, source.gguf, str(error), usable=False)
    return ModelReport(source.name, source.gguf, "ready to be loaded", facts=facts)
