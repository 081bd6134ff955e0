"""Measures steps of prompts that share their beginning: ``python -m bench.engine.shared_rows MODEL.gguf``.

Eight sequences have the cells of one prompt of 820 tokens in common. A step computes N further tokens, an eighth of
them for each sequence. Prints the median milliseconds of a step, in turn over all sizes, and of a token of it. Weights
are repacked unless ``--repack off`` is given.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from bench.tables import markdown
from tests.support.native import Row, decode, fill, loaded

SEQUENCES = 8
SIZES = (8, 16, 32, 48, 64, 104, 128)
_CHUNK = 512


class SharedCells:
    """A context in which ``SEQUENCES`` sequences have the cells of one prompt."""

    def __init__(self, context: llama_cpp.llama_context_p, shared: int) -> None:
        """Compute the prompt, and give it to each sequence."""
        self._context, self._shared = context, shared
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = llama_cpp.llama_batch_init(_CHUNK, 0, 1)
        for start in range(0, shared, _CHUNK):
            fill(self._batch, [_row(0, position) for position in range(start, min(shared, start + _CHUNK))])
            decode(context, self._batch)
        for sequence in range(1, SEQUENCES):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, 0, shared)

    def seconds(self, tokens: int) -> float:
        """Compute ``tokens`` in one step behind the prompt, remove them, and return the seconds of the step."""
        each = tokens // SEQUENCES
        rows = [
            _row(sequence, self._shared + i, logits=i + 1 == each) for sequence in range(SEQUENCES) for i in range(each)
        ]
        fill(self._batch, rows)
        started = time.perf_counter()
        decode(self._context, self._batch)
        ended = time.perf_counter()
        for sequence in range(SEQUENCES):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, self._shared, -1)
        return ended - started

    def close(self) -> None:
        """Free the batch."""
        llama_cpp.llama_batch_free(self._batch)


def _row(sequence: int, position: int, *, logits: bool = False) -> Row:
    return Row(100 + (sequence + position) * 7 % 150, position, sequence, logits)


@contextmanager
def shared_cells(model: llama_cpp.llama_model_p, shared: int, threads: int) -> Iterator[SharedCells]:
    """Yield the cells in a context of their own."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = shared + max(SIZES)
    params.n_batch = params.n_ubatch = _CHUNK
    params.n_seq_max, params.kv_unified = SEQUENCES, True
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    cells = SharedCells(context, shared)
    try:
        yield cells
    finally:
        cells.close()
        llama_cpp.llama_free(context)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shared", type=int, default=820)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repack", choices=("on", "off"), default="on")
    options = parser.parse_args()
    with (
        loaded(options.model, repack=options.repack == "on") as model,
        shared_cells(model, options.shared, options.threads) as cells,
    ):
        rounds = [[1000 * cells.seconds(size) for size in SIZES] for _ in range(options.rounds)]
    steps = [statistics.median(times) for times in zip(*rounds, strict=True)]
    rows = [["ms", *(f"{step:.0f}" for step in steps)]]
    rows.append(["ms for each token", *(f"{step / size:.1f}" for step, size in zip(steps, SIZES, strict=True))])
    print(markdown(("tokens of a step", *map(str, SIZES)), rows))


if __name__ == "__main__":
    main()
