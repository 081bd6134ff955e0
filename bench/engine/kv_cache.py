"""Measures the cost of each type of the KV cache, and of idle cells in it.

    python -m bench.engine.kv_cache MODEL.gguf [--cells 256 1024 4096 16384] [--types f16 q8_0] [--flash off]
    python -m bench.engine.kv_cache --answers

The first prints, for each type, the rates of prefill and of generating in a cache where other sequences hold
N cells. It counts the processor's time on one thread, so that other work on the machine disturbs it little.
The second compares the next-token distributions of the embedded model, at each token of its held-out answers, with
those of a float32 cache. Both print a Markdown table.
"""

import argparse
import ctypes
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np

from bench.quantisation_quality import TINY, Logs, Sample, compare, make_samples
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import KvType
from tests.support.native import Row, compute_logits, decode, fill, loaded

KINDS = {
    KvType.F16: llama_cpp.GGML_TYPE_F16,
    KvType.Q8_0: llama_cpp.GGML_TYPE_Q8_0,
    KvType.Q4_0: llama_cpp.GGML_TYPE_Q4_0,
}
PROMPT = 256
"""Tokens of the prompt that is read, and of each sequence that holds cells."""
STEPS = 24
MEASURED = 255
"""The sequence whose tokens are timed; those before it hold cells."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of processor time, behind ``cells`` of other sequences."""

    cells: int
    prompt: float
    generated: float


class Cache:
    """A context of one thread, and the batch that fills it."""

    def __init__(self, model: llama_cpp.llama_model_p, kind: int, flash: int, cells: int) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = cells + 2 * PROMPT
        params.n_batch = params.n_ubatch = PROMPT
        params.n_seq_max = MEASURED + 1
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = kind
        params.flash_attn_type = flash
        self._context = llama_cpp.llama_init_from_model(model, params)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(PROMPT, 0, 1)

    def compute(self, start: int, count: int, sequence: int) -> float:
        """Compute tokens of a sequence; return the processor's seconds."""
        rows = [
            Row(100 + position * 7 % 150, position, sequence, position == start + count - 1)
            for position in range(start, start + count)
        ]
        fill(self._batch, rows)
        started = time.process_time()
        decode(self._context, self._batch)
        return time.process_time() - started

    def fill(self, cells: Sequence[int]) -> Iterator[int]:
        """Let other sequences hold as many cells as each of ``cells``, in turn; yield how many they do."""
        self.compute(0, PROMPT, 0)
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self._context, state, size, 0)
        held = 1
        for wanted in cells:
            while (held + 1) * PROMPT <= wanted and held + 1 < MEASURED:
                llama_cpp.llama_state_seq_set_data(self._context, state, size, held)
                held += 1
            yield held * PROMPT

    def clear(self) -> None:
        """Empty the sequence that is timed."""
        llama_cpp.llama_memory_seq_rm(self._memory, MEASURED, -1, -1)

    def close(self) -> None:
        """Free everything."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--cells", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--types", type=KvType, nargs="+", default=list(KvType))
    parser.add_argument("--flash", choices=("on", "off"), default="on")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--texts", type=int, default=40, help="of each kind, for --answers")
    options = parser.parse_args()
    if options.answers:
        print_answers(options.texts)
    else:
        print_rates(options.model, options.cells, options.types, int(options.flash == "on"))


def print_rates(path: Path, cells: Sequence[int], kinds: Sequence[KvType], flash: int) -> None:
    """Print the rates for each type; without flash attention llama.cpp has f16 alone."""
    print("| type | cells of others | prompt tokens/s | generated tokens/s |\n|---|---|---|---|")
    with loaded(path, repack=True) as model:
        for kind in kinds:
            cache = Cache(model, KINDS[kind], flash, max(cells))
            for rates in measure(cache, cells):
                print(f"| {kind.value} | {rates.cells} | {rates.prompt:.1f} | {rates.generated:.1f} |", flush=True)
            cache.close()


def measure(cache: Cache, cells: Sequence[int]) -> Iterator[Rates]:
    """Yield the rates behind each number of cells: of the fastest try, as all that disturbs makes them slower."""
    for held in cache.fill(cells):
        prompts = []
        for _ in range(3):
            cache.clear()
            prompts.append(cache.compute(0, PROMPT, MEASURED))
        steps = [cache.compute(PROMPT + i, 1, MEASURED) for i in range(STEPS)]
        cache.clear()
        yield Rates(held, PROMPT / min(prompts), 1 / min(steps))


def print_answers(texts: int) -> None:
    """Print how far each type's distributions are from the distributions of a float32 cache."""
    with tempfile.TemporaryDirectory() as work:
        gguf = Path(work) / "m.gguf"
        convert_checkpoint(TINY, gguf, QuantType.F16)
        samples = tuple(make_samples(gguf, texts))
        reference = tuple(distributions(gguf, samples, llama_cpp.GGML_TYPE_F32))
        print(f"{len(samples)} texts, {sum(map(len, reference))} positions\n")
        print("| type | mean KL divergence | same first choice |\n|---|---|---|")
        for kind, ggml_type in KINDS.items():
            quality = compare(reference, distributions(gguf, samples, ggml_type), 0)
            print(f"| {kind.value} | {quality.divergence:.6f} | {quality.agreement:.2%} |")


def distributions(gguf: Path, samples: Sequence[Sample], kind: int) -> Iterator[Logs]:
    """Yield the logarithms of the probabilities at each position of the answers."""
    with loaded(gguf) as model:
        for sample in samples:
            logits = compute_logits(model, sample.ids, threads=1, cache_type=kind)[sample.positions].astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            yield logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


if __name__ == "__main__":
    main()
