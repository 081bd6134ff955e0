"""Whether a model file agrees with itself and with its model: faults that llama.cpp does not see. Pure.

A file may load and still answer nonsense: wrong rotary positions, an end token that its vocabulary lacks, a type of
weights that it does not have.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from gguf import LlamaFileType

from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.gguf.gguf_header import GgufHeader, Metadata, TensorEntry

_PLAIN_BASE = 10000.0
_LONG = re.compile(r"(?<![0-9a-z])(32|64|128|256)k(?![a-z])", re.I)
_LONG_CONTEXT = 16384
_NEXT_SPEAKER = ("<|user|>", "<|observation|>")
"""Tokens by which a model ends its turn: often its only end."""
_LARGE = 10**9
"""Parameters of a model that should have learnt both languages."""
_MOST_PERPLEXITY = 500.0
"""Of a large model: plain prose gives tens, and thousands with wrong positions or a wrong vocabulary."""
_SHARE_OF_CHANCE = 0.5
"""Of a smaller model: chance is the size of the vocabulary."""


class Severity(str, Enum):
    """Consequence of a finding."""

    ERROR = "error"
    """The file cannot be served, or its answers are bad or endless."""
    WARNING = "warning"
    """It can be served, and something about it is unusual."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not right about a file, in one line."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class ParagraphScore:
    """The perplexity of a paragraph."""

    language: str
    perplexity: float
    """Not finite where the outputs are no numbers."""


def error(text: str) -> Finding:
    """Return a finding that makes the file wrong."""
    return Finding(Severity.ERROR, text)


def warning(text: str) -> Finding:
    """Return a finding that does not."""
    return Finding(Severity.WARNING, text)


def contradictions(header: GgufHeader, facts: ModelFacts) -> tuple[Finding, ...]:
    """Return where the metadata, the tensors and the vocabulary of a file disagree."""
    metadata, tensors = header.metadata, {tensor.name: tensor for tensor in header.tensors}
    return (
        *_embedding(metadata, tensors.get("token_embd.weight"), facts),
        *_layers(header.tensors, facts),
        *_feed_forward(metadata, tensors.get("blk.0.ffn_down.weight"), facts),
        *_token_ids(metadata, facts),
        *_weight_type(metadata, header.tensors),
    )


def rotary_findings(facts: ModelFacts, prompt_format: str, names: Iterable[str], context: int) -> tuple[Finding, ...]:
    """Return a finding where a ChatGLM turns its positions as another member of the family does.

    Args:
        facts: of the file.
        prompt_format: of the model, which tells the members apart.
        names: what the file is called, inside and outside.
        context: tokens that the known model was trained to chat with; 0 of an unknown one.
    """
    fault = _rotary_fault(facts, prompt_format, names, context) if facts.architecture == "chatglm" else ""
    return (error(fault),) if fault else ()


def _rotary_fault(facts: ModelFacts, prompt_format: str, names: Iterable[str], context: int) -> str:
    name = next((name for name in names if _LONG.search(name)), "")
    is_long = bool(name) or context >= _LONG_CONTEXT
    plain = facts.rope.base == _PLAIN_BASE and facts.rope.scale == 1.0
    who = name or facts.name
    if is_long and plain:
        return (
            f"{who} is a model for long texts, and its rotary positions are those of the model for 8192 tokens; "
            "convert it again"
        )
    if is_long and prompt_format == "chatglm2" and facts.rope.scale == 1.0:
        return (
            f"{who} is a model for long texts of ChatGLM2, which divides its positions, and the file has another "
            f"base instead (rope.freq_base {facts.rope.base:g}); convert it with glmserve convert"
        )
    if is_long and prompt_format in ("chatglm3", "glm4") and facts.rope.scale != 1.0:
        return (
            f"{who} is a model for long texts of {prompt_format}, which changes its rotary base, and the file "
            "divides positions"
        )
    if 0 < context < _LONG_CONTEXT and not is_long and not plain:
        return (
            f"{facts.name or facts.path.name} has plain rotary positions, and the file has base "
            f"{facts.rope.base:g} and factor {1 / facts.rope.scale:g}"
        )
    return ""


def end_findings(stops: Sequence[str], wanted: Sequence[str]) -> tuple[Finding, ...]:
    """Return a finding for missing end tokens: ``stops`` are there, and the prompt format wants ``wanted``."""
    if not stops:
        return (error("no token ends an answer, so that each runs to its token limit; convert the model again"),)
    roles = [name for name in _NEXT_SPEAKER if name in wanted and name not in stops]
    if roles:
        missing = " and ".join(roles)
        return (error(f"{missing} should end an answer and is no special token of the vocabulary"),)
    return ()


def ordinary_end_findings(tokens: Iterable[tuple[int, str]]) -> tuple[Finding, ...]:
    """Return a finding for each end token, with its id, that is a piece of ordinary text."""
    return tuple(
        error(f"{text!r} ({number}) ends an answer and is ordinary text, which cuts answers off; convert it again")
        for number, text in tokens
    )


def perplexity_findings(scores: Sequence[ParagraphScore], vocab_size: int, parameters: int) -> tuple[Finding, ...]:
    """Return a finding for each paragraph that the model reads as if it did not know the language."""
    limit = _MOST_PERPLEXITY if parameters >= _LARGE else vocab_size * _SHARE_OF_CHANCE
    return tuple(
        error(
            f"the perplexity of the {score.language} paragraph is {score.perplexity:,.0f}, where at most {limit:,.0f} "
            "is sane: the weights, the rotary positions or the vocabulary are wrong"
        )
        for score in scores
        if not score.perplexity <= limit  # true of what is no number, too
    )


def _embedding(metadata: Metadata, tensor: TensorEntry | None, facts: ModelFacts) -> Iterator[Finding]:
    if tensor is None or len(tensor.shape) != 2:
        yield error("it has no matrix token_embd.weight; convert it again")
        return
    rows, columns = tensor.shape
    if rows != facts.vocab_size:
        yield error(f"the vocabulary has {facts.vocab_size} tokens and token_embd.weight {rows} rows; convert it again")
    if columns != (width := metadata.get(f"{facts.architecture}.embedding_length")):
        yield error(f"embedding_length is {width} and token_embd.weight has {columns} columns; convert it again")


def _layers(tensors: Sequence[TensorEntry], facts: ModelFacts) -> Iterator[Finding]:
    found = {int(number) for tensor in tensors if (number := _layer_of(tensor.name)).isdecimal()}
    if missing := sorted(set(range(facts.layers)) - found):
        yield error(f"block_count is {facts.layers}, and layer {missing[0]} has no weights; copy or convert it again")
    if extra := [number for number in found if number >= facts.layers]:
        yield error(f"block_count is {facts.layers}, and there are weights of layer {max(extra)}; convert it again")


def _layer_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "blk" and len(parts) > 1 else ""


def _feed_forward(metadata: Metadata, tensor: TensorEntry | None, facts: ModelFacts) -> Iterator[Finding]:
    said = metadata.get(f"{facts.architecture}.feed_forward_length")
    if tensor is not None and len(tensor.shape) == 2 and isinstance(said, int) and tensor.shape[1] != said:
        yield error(f"feed_forward_length is {said} and blk.0.ffn_down.weight has {tensor.shape[1]} columns")


def _token_ids(metadata: Metadata, facts: ModelFacts) -> Iterator[Finding]:
    for key, value in metadata.items():
        is_id = key.startswith("tokenizer.ggml.") and key.endswith("_token_id") and isinstance(value, int)
        if is_id and not 0 <= int(value) < facts.vocab_size:  # type: ignore[arg-type]
            yield error(f"{key} is {value}, and the vocabulary ends at {facts.vocab_size - 1}; convert it again")


def _weight_type(metadata: Metadata, tensors: Sequence[TensorEntry]) -> Iterator[Finding]:
    number = metadata.get("general.file_type")
    known = {int(member): member.name for member in LlamaFileType}
    if not isinstance(number, int) or number not in known:
        return
    name = known[number].removeprefix("MOSTLY_").removeprefix("ALL_")
    types = {tensor.type.name for tensor in tensors if len(tensor.shape) == 2}
    if types and not any(name.startswith(kind) for kind in types):
        yield warning(f"general.file_type says {name.lower()}, and no weights have it ({', '.join(sorted(types))})")
