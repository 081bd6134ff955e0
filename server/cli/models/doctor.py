"""``glmserve doctor``: the state of this machine, and the plan for a model."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glmserve.bootstrap.engine_config import MODE_FOLDER, ModelPlan, engine_config
from glmserve.bootstrap.model_source import UnknownModelError, find_source
from glmserve.cli.models.doctor_report import show
from glmserve.cli.models.machine import (
    CachedFile,
    Machine,
    Placed,
    Versions,
    find_cached,
    find_machine,
    find_versions,
    probe,
)
from glmserve.cli.models.model_check import check_model, check_variants
from glmserve.cli.options import UsageProblem, read_settings, settings_options
from glmserve.cli.screen import output
from glmserve.cli.shell_completion import complete_model
from glmserve.config.schema import ModelSettings, Settings
from glmserve.engine.client.compute_modes.memory import ModeMemory, Remembered
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts

if TYPE_CHECKING:
    from glmserve.engine.llama.placement import BuildFacts


@dataclass(frozen=True, slots=True)
class DoctorModel:
    """The resolved MODEL. ``facts`` is None where the file is not there yet or cannot be served."""

    name: str
    gguf: Path | None = None
    state: str = ""
    """One line."""
    usable: bool = True
    facts: ModelFacts | None = None
    placed: Placed = field(default_factory=Placed)
    compute_mode: Remembered | None = None
    """Where the usual one has failed on this machine."""

    @property
    def cache_bytes(self) -> int:
        """Memory of the KV cache that the model would get; 0 where that is not known."""
        return self.placed.placement.cache_bytes if self.placed.placement else 0


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The whole report of doctor."""

    versions: Versions
    machine: Machine
    cache_dir: Path
    files: tuple[CachedFile, ...]
    build: "BuildFacts | None"
    models: tuple[DoctorModel, ...]
    problem: str = ""
    """Why llama.cpp could not be asked."""

    @property
    def healthy(self) -> bool:
        """Whether every model can be served."""
        return not self.problem and all(model.usable and not model.placed.problem for model in self.models)


@click.command()
@click.argument("model", nargs=-1, shell_complete=complete_model)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
def doctor(model: tuple[str, ...], as_json: bool, config: Path | None, **flags: object) -> None:
    """Show the build, the devices and the model files, and how `serve MODEL` would run with these settings.

    Exits with status 1 if a MODEL cannot be served. Without MODEL the models of the TOML file are checked, or else
    the embedded one.
    """
    report = examine(read_settings(model, config, flags))
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False, default=str))
    else:
        show(report, output())
    if not report.healthy:
        raise SystemExit(1)


def examine(settings: Settings) -> DoctorReport:
    """Look at everything; loads no model and changes nothing."""
    reports = [_look_at(model, settings.cache_dir) for model in settings.models]
    known = [index for index, (plan, _) in enumerate(reports) if plan is not None]
    plans = [plan for plan, _ in reports if plan is not None]
    found = probe(tuple((engine_config(plan), plan.facts) for plan in plans))
    placed = dict(zip(known, found.placed, strict=False))  # where llama.cpp cannot be asked, there are none
    return DoctorReport(
        versions=find_versions(),
        machine=find_machine(),
        cache_dir=settings.cache_dir,
        files=find_cached(settings.cache_dir),
        build=found.build,
        models=tuple(replace(report, placed=placed.get(i, Placed())) for i, (_, report) in enumerate(reports)),
        problem=found.problem,
    )


def to_json(report: DoctorReport) -> dict[str, object]:
    """Return the report for programs."""
    models = [{**asdict(model), "cache_bytes": model.cache_bytes} for model in report.models]
    return {**asdict(report), "models": models, "healthy": report.healthy}


def _look_at(model: ModelSettings, cache_dir: Path) -> tuple[ModelPlan | None, DoctorModel]:
    """Return the model to serve, the place of its file, and remarks about it."""
    try:
        source = find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as error:
        return None, DoctorModel(model.name or model.model, state=str(error), usable=False)
    name = model.name or source.name
    if source.needs_conversion and source.quant is not None:
        state = f"{source.checkpoint} is converted to {source.quant.value} when it is served first"
        return None, DoctorModel(name, source.gguf, state)
    try:
        check_variants(model)
        facts = check_model(model, source)
    except (ModelLoadError, UsageProblem) as error:
        return None, DoctorModel(name, source.gguf, str(error), usable=False)
    plan = ModelPlan(model, source, facts)
    if plan.format_problem:
        return None, DoctorModel(name, source.gguf, plan.format_problem, usable=False, facts=facts)
    mode = ModeMemory(cache_dir / MODE_FOLDER, source.gguf).load()
    return plan, DoctorModel(name, source.gguf, "ready to be loaded", facts=facts, compute_mode=mode)
