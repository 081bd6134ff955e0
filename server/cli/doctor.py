"""``glmserve doctor``: the state of this machine, and the plan for a model."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glmserve.bootstrap.engine_config import MODE_FOLDER, ModelPlan, engine_config
from glmserve.bootstrap.model_source import UnknownModelError, check_model, check_variants, find_source
from glmserve.cli.machine import (
    CachedFile,
    Machine,
    Placed,
    Versions,
    find_cached,
    find_machine,
    find_versions,
    in_units,
    probe,
)
from glmserve.cli.options import complete_model, output, read_settings, settings_options
from glmserve.config.schema import ModelSettings, Settings
from glmserve.engine.client.compute_modes.memory import ModeMemory, Remembered
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts

if TYPE_CHECKING:
    from glmserve.engine.llama.placement import BuildFacts, Placement


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
    except (ModelLoadError, UnknownModelError) as error:
        return None, DoctorModel(name, source.gguf, str(error), usable=False)
    plan = ModelPlan(model, source, facts)
    if plan.format_problem:
        return None, DoctorModel(name, source.gguf, plan.format_problem, usable=False, facts=facts)
    mode = ModeMemory(cache_dir / MODE_FOLDER, source.gguf).load()
    return plan, DoctorModel(name, source.gguf, "ready to be loaded", facts=facts, compute_mode=mode)


def show(report: DoctorReport, console: Console) -> None:
    """Print the report, one table for each subject."""
    _print(console, "Installation", _installation(report))
    _print(console, "Machine", _machine(report))
    for model in report.models:
        _print(console, "Model", _model(model))
    _print(console, f"Model files in {report.cache_dir}", _files(report))
    for problem in filter(None, (report.problem, *(model.placed.problem for model in report.models))):
        console.print(f"[bold red]Problem:[/] {escape(problem)}")


def _print(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True, min_width=18)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(escape(key), escape(value))
    console.print(table)
    console.print()


def _installation(report: DoctorReport) -> list[tuple[str, str]]:
    rows = [
        ("glmserve", report.versions.glmserve),
        ("Python", report.versions.python),
        ("llama-cpp-python", report.versions.llama_cpp_python),
    ]
    build = report.build
    if build is not None:
        rows.append(("GPU support", "yes" if build.gpu_offload else "no: built for the CPU, or no GPU was found"))
        rows.append(("llama.cpp", build.system_info))
    return rows


def _machine(report: DoctorReport) -> list[tuple[str, str]]:
    machine = report.machine
    rows = [
        ("system", machine.system),
        ("cores", f"{machine.usable_cores} of {machine.cores} usable"),
        ("memory", in_units(machine.memory_bytes)),
    ]
    for device in report.build.devices if report.build else ():
        memory = f"{in_units(device.free_bytes)} of {in_units(device.total_bytes)} free"
        rows.append((f"device {device.name}", f"{device.description} ({device.kind}), {memory}"))
    return rows


def _model(model: DoctorModel) -> list[tuple[str, str]]:
    placement = model.placed.placement
    rows = [("name", model.name), ("state", model.state)]
    if model.gguf is not None:
        rows.append(("file", str(model.gguf)))
    if model.facts is not None:
        facts = model.facts
        rows.append(
            (
                "what it is",
                f"{facts.architecture}, {facts.layers} layers, {in_units(facts.size_bytes)}, "
                f"prompts as {facts.prompt_format or 'not said'}",
            )
        )
        if facts.prompt_format and facts.format_inference.reason:
            rows.append(("prompt format", f"inferred from {facts.format_inference.reason}"))
    if model.compute_mode is not None:
        mode = model.compute_mode
        rows.append(("compute mode", f"{mode.mode.in_words}, as {mode.reason} (remove {mode.file} to try it again)"))
    if placement is not None and model.facts is not None:
        rows += [
            ("would run on", placement.in_words),
            ("threads", _threads(placement)),
            ("layers on the GPU", f"{placement.gpu_layers} of {model.facts.layers + 1}"),
            ("context", f"{placement.context_length} tokens for each answer"),
            ("cache", f"{placement.cache_cells} tokens, {in_units(model.cache_bytes)}"),
        ]
    return rows


def _threads(placement: "Placement") -> str:
    tried = ", ".join(map(str, placement.threads_to_try))
    generate = f"the fastest of {tried}, measured when it loads," if tried else str(placement.threads)
    return f"{generate} to generate, {placement.threads_batch} to read prompts"


def _files(report: DoctorReport) -> list[tuple[str, str]]:
    if not report.files:
        return [("none", "")]
    return [(in_units(file.size_bytes), str(file.path.relative_to(report.cache_dir))) for file in report.files]
