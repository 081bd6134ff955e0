"""Measures the cost of each type of quantisation: mean KL divergence and top-token agreement against f16.

    python -m bench.quantisation_quality [CHECKPOINT_FOLDER] [--texts 40]

The texts are the held-out reviews and sentences of the embedded model, in the two prompts that the model was made
for, each followed by its reference answer. At every token of the answer, and at the one that ends it, the
distribution over the next token is compared with the one of the f16 file. The cache is float32, so that nothing
but the weights differs. Prints a Markdown table.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.native import compute_logits, loaded

TINY = Path(__file__).parents[1] / "models" / "tiny"
SETS = (("reviews.jsonl", "review.txt"), ("intents.jsonl", "intent.txt"))

Logs = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its answer."""

    ids: tuple[int, ...]
    answer_start: int

    @property
    def positions(self) -> slice:
        """Where a token of the answer, or its end, is predicted."""
        return slice(self.answer_start - 1, len(self.ids))


@dataclass(frozen=True, slots=True)
class Quality:
    """A type against f16."""

    bytes: int
    divergence: float
    """Mean of KL(f16 || type), in nats."""
    agreement: float
    """Part of the positions at which both have the same first choice."""


def main() -> None:
    """Measure all types and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=TINY)
    parser.add_argument("--texts", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measure(options.folder, Path(work) / "m.gguf", options.texts)


def measure(folder: Path, gguf: Path, texts: int) -> None:
    """Print the table for a checkpoint; ``gguf`` is overwritten for each type."""
    convert_checkpoint(folder, gguf, QuantType.F16)
    samples = tuple(make_samples(gguf, texts))
    reference = tuple(log_distributions(gguf, samples))
    print(f"{len(samples)} texts, {sum(map(len, reference))} positions\n")
    print("| type | MB | mean KL divergence | same first choice |\n|---|---|---|---|")
    for kind in QuantType:
        if kind in (QuantType.F32, QuantType.F16):
            continue
        convert_checkpoint(folder, gguf, kind)
        quality = compare(reference, log_distributions(gguf, samples), gguf.stat().st_size)
        print(f"| {kind.value} | {quality.bytes / 1e6:.1f} | {quality.divergence:.5f} | {quality.agreement:.2%} |")


def make_samples(gguf: Path, texts: int) -> Iterator[Sample]:
    """Yield the samples, in the prompt of ChatGLM2."""
    tokenizer = load_tokenizer(gguf)
    prefix = (tokenizer.special_id("[gMASK]"), tokenizer.special_id("sop"))
    for records, template in SETS:
        frame = (TINY / "prompts" / template).read_text(encoding="utf-8")
        lines = (TINY / "heldout" / records).read_text(encoding="utf-8").splitlines()[:texts]
        for record in map(json.loads, lines):
            prompt = chatglm2_text((), frame.replace("{text}", record["text"]))
            # Encoded in one go: an answer continues the prompt's text, without a space of the tokenizer's own.
            alone, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + record["answer"])
            if whole[: len(alone)] == alone:
                yield Sample((*prefix, *whole), len(prefix) + len(alone))
    tokenizer.close()


def log_distributions(gguf: Path, samples: Sequence[Sample]) -> Iterator[Logs]:
    """Yield the logarithms of the probabilities at the positions of each sample."""
    with loaded(gguf) as model:
        for sample in samples:
            logits = compute_logits(model, sample.ids, threads=1)[sample.positions].astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            yield logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def compare(reference: Sequence[Logs], other: Iterator[Logs], size: int) -> Quality:
    """Compare distributions position by position."""
    divergences: list[NDArray[np.float64]] = []
    same: list[NDArray[np.bool_]] = []
    for expected, found in zip(reference, other, strict=True):
        divergences.append((np.exp(expected) * (expected - found)).sum(axis=1))
        same.append(expected.argmax(axis=1) == found.argmax(axis=1))
    return Quality(size, float(np.concatenate(divergences).mean()), float(np.concatenate(same).mean()))


if __name__ == "__main__":
    main()
