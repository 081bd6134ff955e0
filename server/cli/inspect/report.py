"""The description of a model file: how it would be served, and the faults of it."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from glmserve.bootstrap.engine_config import ModelPlan, engine_config
from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, find_source
from glmserve.cli.options import UsageProblem
from glmserve.cli.trial import PromptTrial, TrialFault, self_test, try_prompt, try_reading
from glmserve.config.schema import ModelSettings
from glmserve.convert.errors import ConvertError
from glmserve.convert.gguf_format import encode_header
from glmserve.convert.pipeline import plan_conversion
from glmserve.convert.plan import ConversionPlan
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
    ordinary_end_findings,
    perplexity_findings,
    rotary_findings,
)
from glmserve.models.catalog import EMBEDDED, CatalogEntry, find

_BESIDE = {
    "adapter": "a LoRA adapter, served with its model by --lora",
    "prefix": "a P-Tuning prefix, served with its model by --prefix",
}


_POOLINGS = {1: "mean", 2: "cls", 3: "lasttoken"}
"""enum llama_pooling_type of llama.h, in the words of sentence-transformers."""
_FEW_TEXTS = "it was trained on its examples alone, so the perplexity of other texts says nothing about it"


@dataclass(frozen=True, slots=True)
class VectorForm:
    """The form of an embedding model's vectors."""

    dimensions: int = 0
    pooling: str = ""
    normalized: bool = False


@dataclass(frozen=True, slots=True)
class InspectReport:
    """All that was found out about a file."""

    path: Path
    what: str
    """One line."""
    name: str = ""
    """Under which it would be served."""
    kind: str = ""
    """``generation``, ``embedding`` or ``rerank``."""
    architecture: str = ""
    layers: int = 0
    parameters: int = 0
    weights: str = ""
    """Type of most of them."""
    size_bytes: int = 0
    prompt_format: str = ""
    context: int = 0
    """Tokens of prompt and answer, unless set otherwise; of an embedding model or a reranker: tokens of one text."""
    prompt: PromptTrial = field(default_factory=PromptTrial)
    """How a greeting is put to the model, and the tokens that end its answer."""
    perplexity: tuple[ParagraphScore, ...] = ()
    vectors: VectorForm = field(default_factory=VectorForm)
    """Of an embedding model."""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """Decisions and untried things, with the reason."""

    @property
    def right(self) -> bool:
        """Whether nothing speaks against serving it."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


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
    with _planned_file(plan) as path:
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
def _planned_file(plan: ConversionPlan) -> Iterator[Path]:
    """Write the header of the file that would be made, and a hole of the size of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "planned.gguf")
        with path.open("wb") as file:
            file.write(encode_header(plan.metadata, plan.tensors))
            file.truncate(file.tell() + plan.data_bytes)
        yield path


def _of_file(model: ModelSettings, source: ModelSource, *, run: bool) -> InspectReport:
    path = source.gguf
    header = open_header(path)
    kind = str(header.metadata.get("general.type", ""))
    if kind in _BESIDE:
        return InspectReport(path, _BESIDE[kind], size_bytes=path.stat().st_size)
    if not header.tensors:
        fault = error("it has no weights, and can be used for tests of a tokenizer only; get the file of the model")
        return InspectReport(path, "a vocabulary", source.name, size_bytes=path.stat().st_size, findings=(fault,))
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
        facts.path, "", model.name or source.name, "generation", facts.architecture, facts.layers,
        prompt_format=plan.prompt_format, context=engine_config(plan).context_length or facts.context_train,
    )  # fmt: skip
    if facts.embeds:
        return _of_encoder(report, plan, run=run)
    if plan.format_problem:
        return replace(report, findings=(error(plan.format_problem),))
    names = (source.name, facts.name)
    known_context = entry.context_length if entry else 0
    findings = list(rotary_findings(facts, plan.prompt_format, names, known_context))
    notes = [f"prompt format inferred from {why}"] if (why := facts.format_inference.reason) else []
    try:
        prompt = try_prompt(plan)
        findings += end_findings([stop.text for stop in prompt.stops], prompt.wanted_stops)
        findings += ordinary_end_findings([(token.id, token.text) for token in prompt.ordinary_stops])
        report = replace(report, prompt=prompt)
        scores = try_reading(plan) if run else ()
        findings += _reading_findings(scores, facts, entry)
        report = replace(report, perplexity=scores)
        notes += [_FEW_TEXTS] if scores and entry is EMBEDDED else []
    except TrialFault as fault:
        findings.append(error(str(fault)))
    return replace(report, findings=tuple(findings), notes=tuple(notes))


def _of_encoder(report: InspectReport, plan: ModelPlan, *, run: bool) -> InspectReport:
    """Return the report of an embedding model or a reranker, which has no prompt; its outputs are compared."""
    facts, metadata = plan.facts, open_header(plan.facts.path).metadata
    fault = self_test(engine_config(plan)).fault if run else ""
    report = replace(report, kind="rerank" if facts.ranks else "embedding", findings=(error(fault),) if fault else ())
    if facts.ranks:
        return report
    pooling = _POOLINGS[int(str(metadata[f"{facts.architecture}.pooling_type"]))]
    width = int(str(metadata[f"{facts.architecture}.embedding_length"]))
    return replace(report, vectors=VectorForm(width, pooling, facts.normalizes))


def _reading_findings(
    scores: tuple[ParagraphScore, ...], facts: ModelFacts, entry: CatalogEntry | None
) -> tuple[Finding, ...]:
    if entry is EMBEDDED:  # it knows its examples and nothing else
        scores = tuple(score for score in scores if not math.isfinite(score.perplexity))
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
