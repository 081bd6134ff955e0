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
from glmserve.bootstrap.model_source import (
    ModelSource,
    UnknownModelError,
    check_adapters,
    check_folder,
    check_model,
    find_source,
)
from glmserve.bootstrap.plans import AssemblyError
from glmserve.bootstrap.prerequisites import check_prerequisites
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
from glmserve.cli.options import UsageProblem, complete_model, output, printable, read_settings, settings_options
from glmserve.cli.texts.chinese import say
from glmserve.cli.texts.chinese_errors import told
from glmserve.cli.trial import self_test
from glmserve.config.schema import ModelSettings, Settings
from glmserve.convert.errors import ConvertError
from glmserve.convert.pipeline import plan_conversion
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client.compute_modes import ModeMemory, Remembered
from glmserve.engine.client.kernel_choice import KernelTrial
from glmserve.engine.config import ComputeMode
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.kernel_timing import KernelChoice

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
    kernels: KernelChoice | None = None
    """Whether weights are repacked; None where nothing was measured."""
    self_test: str = ""
    """"passed", or the fault that the engine's self-test finds; empty where it was not run."""

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
        return not self.problem and all(
            model.usable and not model.placed.problem and model.self_test in ("", "passed") for model in self.models
        )


@click.command()
@click.argument("model", nargs=-1, shell_complete=complete_model)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--self-test/--no-self-test", "tests", default=True,
              help="Load each model and check its outputs as the engine does.  [default: yes]")  # fmt: skip
@settings_options
def doctor(*, model: tuple[str, ...], as_json: bool, tests: bool, config: Path | None, **flags: object) -> None:
    """Show the build, the devices and the model files, and how `serve MODEL` would run with these settings.

    Exits with status 1 if a MODEL cannot be served. Without MODEL the models of the TOML file are checked, or else
    the embedded one.
    """
    settings = read_settings(model, config, flags)
    try:
        check_prerequisites(settings)
    except AssemblyError as error:
        raise UsageProblem(str(error)) from None
    with Console(stderr=True).status(say("looking at the machine and the models…")):
        report = examine(settings, tests=tests)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False, default=str))
    else:
        show(report, output())
    if not report.healthy:
        raise SystemExit(1)


def examine(settings: Settings, *, tests: bool = False) -> DoctorReport:
    """Look at everything, and change nothing; ``tests``: load the models for the engine's self-test."""
    reports = [_look_at(model, settings.cache_dir) for model in settings.models]
    known = [index for index, (plan, _) in enumerate(reports) if plan is not None]
    plans = [plan for plan, _ in reports if plan is not None]
    found = probe(tuple((engine_config(plan), plan.facts) for plan in plans))
    placed = dict(zip(known, found.placed, strict=False))  # where llama.cpp cannot be asked, there are none
    if tests:
        reports = [(plan, _tested(plan, report, placed.get(i))) for i, (plan, report) in enumerate(reports)]
    return DoctorReport(
        versions=find_versions(),
        machine=find_machine(),
        cache_dir=settings.cache_dir,
        files=find_cached(settings.cache_dir),
        build=found.build,
        models=tuple(replace(report, placed=placed.get(i, Placed())) for i, (_, report) in enumerate(reports)),
        problem=found.problem,
    )


def _tested(plan: ModelPlan | None, report: DoctorModel, placed: Placed | None) -> DoctorModel:
    if plan is None or placed is None or placed.problem:
        return report
    config = engine_config(plan)
    kernels = report.kernels
    if report.compute_mode is not None:
        config = replace(config, compute_mode=report.compute_mode.mode)
    elif (kernels := kernels or KernelTrial(config).choose()) is not None and not kernels.repack:
        config = replace(config, compute_mode=ComputeMode.NO_EXTRA_BUFFERS)
    trial = self_test(config)
    report = replace(report, self_test=trial.fault or "passed", kernels=kernels)
    if trial.fault or not trial.failures:
        return report
    return replace(report, compute_mode=Remembered(trial.mode, "; ".join(map(str, trial.failures))))


def to_json(report: DoctorReport) -> dict[str, object]:
    """Return the report for programs."""
    models = [{**asdict(model), "cache_bytes": model.cache_bytes} for model in report.models]
    return {**asdict(report), "models": models, "healthy": report.healthy}


def _of_checkpoint(name: str, source: ModelSource, folder: Path, quant: QuantType) -> DoctorModel:
    """Check a checkpoint as its conversion would: configuration, every shard, tokenizer, the place of the file."""
    try:
        plan_conversion(folder, quant)
        check_folder(source.gguf.parent)
    except ConvertError as error:
        return DoctorModel(name, source.gguf, str(error), usable=False)
    return DoctorModel(name, source.gguf, f"{folder} is converted to {quant.value} when it is served first")


def _look_at(model: ModelSettings, cache_dir: Path) -> tuple[ModelPlan | None, DoctorModel]:
    """Return the model to serve, the place of its file, and remarks about it."""
    if model.upstream:
        return None, DoctorModel(model.public_name, state=f"runs on {model.upstream}; /health tells whether it answers")
    try:
        check_adapters(model)
        source = find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as error:
        return None, DoctorModel(model.name or model.model, state=str(error), usable=False)
    name = model.name or source.name
    if source.checkpoint is not None and source.quant is not None and source.needs_conversion:
        return None, _of_checkpoint(name, source, source.checkpoint, source.quant)
    try:
        facts = check_model(model, source)
    except ModelLoadError as error:
        return None, DoctorModel(name, source.gguf, str(error), usable=False)
    plan = ModelPlan(model, source, facts)
    if plan.format_problem:
        return None, DoctorModel(name, source.gguf, plan.format_problem, usable=False, facts=facts)
    mode = ModeMemory(cache_dir / MODE_FOLDER, source.gguf).load()
    kernels = KernelTrial(engine_config(plan, mode_dir=cache_dir / MODE_FOLDER)).known()
    return plan, DoctorModel(name, source.gguf, "ready to be loaded", facts=facts, compute_mode=mode, kernels=kernels)


def show(report: DoctorReport, console: Console) -> None:
    """Print the report, one table for each subject."""
    print_rows(console, say("Installation"), _installation(report))
    print_rows(console, say("Machine"), _machine(report))
    for model in report.models:
        print_rows(console, say("Model"), _model(model))
    print_rows(console, say("Model files in {folder}", folder=report.cache_dir), _files(report))
    for problem in filter(None, (report.problem, *(model.placed.problem for model in report.models))):
        console.print(f"[bold red]{say('Problem:')}[/] {escape(told(problem))}")


def print_rows(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table of names and values under a title."""
    if title:  # not of the table, whose width it may pass
        console.print(title, style="bold", markup=False, highlight=False, overflow="fold")
    table = Table(show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True, min_width=18)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(escape(key), escape(printable(value)))
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
        no = "no: no GPU was found, or its driver is too old" if build.gpu_backends else "no: built for the CPU"
        rows.append((say("GPU support"), say("yes") if build.gpu_offload else say(no)))
        rows.append(("llama.cpp", build.system_info))
    return rows


def _machine(report: DoctorReport) -> list[tuple[str, str]]:
    machine = report.machine
    rows = [
        (say("system"), machine.system),
        (say("cores"), say("{usable} of {cores} usable", usable=machine.usable_cores, cores=machine.cores)),
        (say("memory"), in_units(machine.memory_bytes)),
    ]
    for device in report.build.devices if report.build else ():
        memory = say("{free} of {total} free", free=in_units(device.free_bytes), total=in_units(device.total_bytes))
        rows.append((say("device {name}", name=device.name), f"{device.description} ({device.kind}), {memory}"))
    return rows


def _model(model: DoctorModel) -> list[tuple[str, str]]:
    placement = model.placed.placement
    rows = [(say("name"), model.name), (say("state"), told(model.state))]
    if model.gguf is not None:
        rows.append((say("file"), str(model.gguf)))
    if model.facts is not None:
        rows += _content(model.facts)
    if model.compute_mode is not None:
        mode = model.compute_mode
        because = "{mode}, as {reason} (remove {file} to try it again)" if mode.file else "{mode}, as {reason}"
        rows.append((say("compute mode"), say(because, mode=mode.mode.in_words, reason=mode.reason, file=mode.file)))
    rows += _kernels(model.kernels)
    if model.self_test:
        rows.append((say("self-test"), say("passed") if model.self_test == "passed" else told(model.self_test)))
    if placement is not None and model.facts is not None:
        rows += _place(placement, model.facts, model.cache_bytes)
    return rows


def _content(facts: ModelFacts) -> list[tuple[str, str]]:
    described = say(
        "{architecture}, {layers} layers, {size}, prompts as {format}",
        architecture=facts.architecture,
        layers=facts.layers,
        size=in_units(facts.size_bytes),
        format=facts.prompt_format or say("not said"),
    )
    rows = [(say("what it is"), described)]
    if facts.prompt_format and facts.format_inference.reason:
        rows.append((say("prompt format"), say("inferred from {reason}", reason=facts.format_inference.reason)))
    return rows


def _place(placement: "Placement", facts: ModelFacts, cache_bytes: int) -> list[tuple[str, str]]:
    return [
        (say("would run on"), told(placement.in_words)),
        (say("threads"), _threads(placement)),
        (say("layers on the GPU"), say("{some} of {all}", some=placement.gpu_layers, all=facts.layers + 1)),
        (say("context"), say("{count} tokens for each answer", count=placement.context_length)),
        (say("cache"), _cache(placement.cache_cells, cache_bytes)),
    ]


def _cache(cells: int, size: int) -> str:
    return say("{count} tokens, {size}", count=cells, size=in_units(size))


def _kernels(choice: KernelChoice | None) -> list[tuple[str, str]]:
    if choice is None:
        return []
    layout = say("repacked") if choice.repack else say("as they lie in the file")
    rows = [(say("weights"), f"{layout}: {told(choice.reason)}")]
    for timing in choice.timings:
        repacked, as_is = (f"{1000 * seconds / timing.rows:.2f} ms" for seconds in (timing.repacked, timing.as_is))
        times = say("{repacked} a token repacked, {as_is} as in the file", repacked=repacked, as_is=as_is)
        rows.append((say("  {count} tokens a step", count=timing.rows), times))
    return rows


def _threads(placement: "Placement") -> str:
    generate = _or_measured(placement.threads, placement.threads_to_try)
    read = _or_measured(placement.threads_batch, placement.threads_batch_to_try)
    return say("{generate} to generate, {read} to read prompts", generate=generate, read=read)


def _or_measured(threads: int, to_try: tuple[int, ...]) -> str:
    tried = ", ".join(map(str, to_try))
    return say("the fastest of {tried}, measured when it loads,", tried=tried) if tried else str(threads)


def _files(report: DoctorReport) -> list[tuple[str, str]]:
    if not report.files:
        return [(say("none"), "")]
    return [(in_units(file.size_bytes), str(file.path.relative_to(report.cache_dir))) for file in report.files]
