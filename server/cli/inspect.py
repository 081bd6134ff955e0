"""``glmserve inspect``: the description of a model file, and a verdict."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from glmserve.bootstrap.engine_config import ModelPlan, engine_config
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, find_source
from glmserve.cli.doctor import print_rows
from glmserve.cli.machine import in_units
from glmserve.cli.options import UsageProblem, cache_options, complete_model, output, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.cli.texts.chinese_errors import told
from glmserve.cli.trial import PromptTrial, Token, TrialFault, try_prompt, try_reading
from glmserve.config.schema import ModelSettings
from glmserve.convert.errors import ConvertError
from glmserve.convert.gguf_format import encode_header
from glmserve.convert.pipeline import plan_conversion
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts, check_gguf, open_header
from glmserve.engine.gguf.gguf_header import GgufHeader
from glmserve.engine.gguf.soundness import (
    Finding,
    ParagraphScore,
    Severity,
    contradictions,
    end_findings,
    error,
    perplexity_findings,
    rotary_findings,
)
from glmserve.models.catalog import EMBEDDED, CatalogEntry, find

_BESIDE = {
    "adapter": "a LoRA adapter, served with its model by --lora",
    "prefix": "a P-Tuning prefix, served with its model by --prefix",
}


@dataclass(frozen=True, slots=True)
class InspectReport:
    """All that was found out about a file."""

    path: Path
    what: str
    """One line."""
    name: str = ""
    """Under which it would be served."""
    architecture: str = ""
    layers: int = 0
    parameters: int = 0
    weights: str = ""
    """Type of most of them."""
    size_bytes: int = 0
    prompt_format: str = ""
    context: int = 0
    """Tokens of prompt and answer, unless set otherwise."""
    prompt: PromptTrial = field(default_factory=PromptTrial)
    """How a greeting is put to the model, and the tokens that end its answer."""
    perplexity: tuple[ParagraphScore, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What was decided or not tried, and why."""

    @property
    def right(self) -> bool:
        """Whether nothing speaks against serving it."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--run/--no-run", default=True, help="Load the model and let it read two paragraphs.  [default: yes]")
@click.option("--prompt-format", default="", metavar="NAME", help="Format of prompts, where the file names none.")
@click.option("--chat-template", default="", metavar="FILE", help="Chat template of prompts, as for `serve`.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@cache_options
def inspect(
    *,
    model: str,
    run: bool,
    prompt_format: str,
    chat_template: str,
    as_json: bool,
    cache_dir: str | None,
    config: Path | None,
) -> None:
    """Show what MODEL is, how it would be served, and whether the file is right.

    MODEL is a GGUF file, a checkpoint folder or a name, as for `serve`. The report has the prompt of a greeting with
    its token ids, the tokens that end an answer, and the perplexity of a paragraph in Chinese and one in English. Exit
    status 1: something is wrong with the file.
    """
    asked = {"cache_dir": cache_dir, "prompt_format": prompt_format or None, "chat_template": chat_template or None}
    settings = read_settings((model,), config, asked)
    console = Console(stderr=True)
    with console.status(say("reading the file…")):
        report = examine(settings.models[0], settings.cache_dir, run=run)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False, default=str))
    else:
        show(report, output())
    if not report.right:
        raise SystemExit(1)


def to_json(report: InspectReport) -> dict[str, object]:
    """Return the report for programs."""
    return {**asdict(report), "right": report.right}


def examine(model: ModelSettings, cache_dir: Path, *, run: bool) -> InspectReport:
    """Find out everything about a model; changes nothing.

    Raises:
        UsageProblem: there is no such model.
    """
    try:
        source = find_source(model.model, model.quant, cache_dir)
    except UnknownModelError as problem:
        raise UsageProblem(str(problem)) from None
    try:
        if source.checkpoint is not None and not source.gguf.exists():
            return _of_checkpoint(model, source, source.checkpoint)
        return _of_file(model, source, run=run)
    except (ModelLoadError, ConvertError) as problem:
        path = source.checkpoint or source.gguf
        return InspectReport(path, "cannot be served", source.name, findings=(error(str(problem)),))


def _of_checkpoint(model: ModelSettings, source: ModelSource, folder: Path) -> InspectReport:
    """Return the report of a folder, by the vocabulary and metadata of the file that would be made of it."""
    assert source.quant is not None, folder
    plan = plan_conversion(folder, source.quant)
    if plan.metadata.get("general.type") != "model":
        return InspectReport(folder, _BESIDE.get(str(plan.metadata.get("general.type")), ""), notes=plan.findings)
    with _written(encode_header(plan.metadata, ())) as path:
        report = _report(model, replace(source, gguf=path), check_gguf(path), run=False)
    return replace(
        report,
        path=folder,
        what=f"a checkpoint, which `serve` converts to {source.quant.value} when it is served first",
        weights=source.quant.value,
        parameters=sum(_count(tensor.shape) for tensor in plan.tensors),
        size_bytes=plan.data_bytes,
        notes=(*plan.findings, "its weights are not tried before they are converted"),
    )


@contextmanager
def _written(header: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocabulary.gguf")
        path.write_bytes(header)
        yield path


def _of_file(model: ModelSettings, source: ModelSource, *, run: bool) -> InspectReport:
    path = source.gguf
    header = open_header(path)
    kind = str(header.metadata.get("general.type", ""))
    if kind in _BESIDE:
        return InspectReport(path, _BESIDE[kind], size_bytes=path.stat().st_size)
    facts = check_gguf(path)
    report = _report(model, source, facts, run=run)
    made = "glmserve convert" if "glmserve.origin" in header.metadata else "another program"
    return replace(
        report,
        what=f"a GGUF file made by {made}",
        parameters=_parameters(header),
        weights=_main_type(header),
        size_bytes=facts.size_bytes,
        findings=(*contradictions(header, facts), *report.findings),
    )


def _report(model: ModelSettings, source: ModelSource, facts: ModelFacts, *, run: bool) -> InspectReport:
    plan = ModelPlan(model, source, facts)
    entry = source.entry or find(facts.name)
    report = InspectReport(
        facts.path, "", model.name or source.name, facts.architecture, facts.layers,
        prompt_format=plan.prompt_format, context=engine_config(plan).context_length or facts.context_train,
    )  # fmt: skip
    if facts.embeds:
        return replace(report, notes=("it makes vectors of texts, and has no prompt",))
    if plan.format_problem:
        return replace(report, findings=(error(plan.format_problem),))
    names = (source.name, facts.name)
    known_context = entry.context_length if entry else 0
    findings = list(rotary_findings(facts, plan.prompt_format, names, known_context))
    notes = (f"prompt format inferred from {why}",) if (why := facts.format_inference.reason) else ()
    try:
        prompt = try_prompt(plan)
        findings += end_findings([stop.text for stop in prompt.stops], prompt.wanted_stops)
        report = replace(report, prompt=prompt)
        scores = try_reading(plan) if run else ()
        findings += _reading_findings(scores, facts, entry)
        report = replace(report, perplexity=scores)
    except TrialFault as fault:
        findings.append(error(str(fault)))
    return replace(report, findings=tuple(findings), notes=notes)


def _reading_findings(
    scores: tuple[ParagraphScore, ...], facts: ModelFacts, entry: CatalogEntry | None
) -> tuple[Finding, ...]:
    if entry is EMBEDDED:
        return ()  # it knows its examples and nothing else
    return perplexity_findings(scores, facts.vocab_size, _parameters(open_header(facts.path)))


def _parameters(header: GgufHeader) -> int:
    return sum(_count(tensor.shape) for tensor in header.tensors)


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _main_type(header: GgufHeader) -> str:
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.nbytes
    return max(sizes, key=sizes.__getitem__, default="").lower()


_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}


def show(report: InspectReport, console: Console) -> None:
    """Print the report."""
    console.print(str(report.path), style="bold", markup=False, soft_wrap=True)
    print_rows(console, "", [row for row in _rows(report) if row[1]])
    for note in report.notes:
        console.print(f"{say('note:')} {escape(told(note))}", soft_wrap=True)
    for finding in report.findings:
        colour = _COLOURS[finding.severity]
        console.print(f"[{colour}]{say(f'{finding.severity.value}:')}[/] {escape(told(finding.text))}", soft_wrap=True)
    verdict = f"[bold green]{say('right')}[/]" if report.right else f"[bold red]{say('wrong')}[/]"
    console.print(f"{say('Verdict:')} {verdict}")


def _rows(report: InspectReport) -> list[tuple[str, str]]:
    shape = (
        report.architecture,
        say("{count} layers", count=report.layers) if report.layers else "",
        _in_words(report.parameters) if report.parameters else "",
        report.weights,
        in_units(report.size_bytes) if report.size_bytes else "",
    )
    served = "{name}, prompts as {format}, {context} tokens"
    served = say(served, name=report.name, format=report.prompt_format, context=report.context)
    return [
        (say("what it is"), told(report.what)),
        (say("shape"), ", ".join(filter(None, shape))),
        (say("served as"), served if report.prompt_format else ""),
        (say("prompt"), report.prompt.text.replace("\n", "\\n")),
        (say("ids"), " ".join(str(token.id) for token in report.prompt.prompt)),
        (say("stops at"), ", ".join(map(_named, report.prompt.stops))),
        (say("perplexity"), ", ".join(f"{score.language} {score.perplexity:,.1f}" for score in report.perplexity)),
    ]


def _in_words(parameters: int) -> str:
    if parameters >= 1e9:
        return say("{count} billion parameters", count=f"{parameters / 1e9:.1f}")
    return say("{count} million parameters", count=f"{parameters / 1e6:.1f}")


def _named(token: Token) -> str:
    return f"{token.text} ({token.id})"
