"""Measures steps of different sizes in llama.cpp alone: ``python -m bench.engine.step_sizes MODEL.gguf``.

Before a step, the sequences have the cells of one prompt in common, or with ``--cells own`` each has those of a prompt
of its own. With ``--rows even`` each sequence has an equal part of the step's tokens. With ``--rows beside`` all but
the last have one token each, as answers beside a prompt. Prints the median milliseconds of a step, in turn over all
sizes, and of a token of it. Weights are repacked unless ``--repack off`` is given.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from bench.tables import markdown
from tests.support.native import Row, decode, fill, loaded

_CHUNK = 512


class Cells:
    """A context in which each sequence has ``depth`` cells: the same ones, or its own."""

    def __init__(self, context: llama_cpp.llama_context_p, sequences: int, depth: int, *, own: bool) -> None:
        """Compute one prompt and give it to all, or one for each."""
        self._context, self._sequences, self._depth = context, sequences, depth
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = llama_cpp.llama_batch_init(_CHUNK, 0, 1)
        for sequence in range(sequences if own else 1):
            for start in range(0, depth, _CHUNK):
                rows = [_row(sequence, position) for position in range(start, min(depth, start + _CHUNK))]
                fill(self._batch, rows)
                decode(context, self._batch)
        for sequence in () if own else range(1, sequences):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, 0, depth)

    def seconds(self, counts: Sequence[int]) -> float:
        """Compute a number of tokens of each sequence in one step, remove them, and return the seconds of the step."""
        rows = [
            _row(sequence, self._depth + i, logits=i + 1 == count)
            for sequence, count in enumerate(counts)
            for i in range(count)
        ]
        fill(self._batch, rows)
        started = time.perf_counter()
        decode(self._context, self._batch)
        ended = time.perf_counter()
        for sequence in range(self._sequences):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, self._depth, -1)
        return ended - started

    def close(self) -> None:
        """Free the batch."""
        llama_cpp.llama_batch_free(self._batch)


def _row(sequence: int, position: int, *, logits: bool = False) -> Row:
    return Row(100 + (sequence + position) * 7 % 150, position, sequence, logits)


def split(tokens: int, sequences: int, *, beside: bool) -> list[int]:
    """Return how many of a step's tokens each sequence has: the same number, or one and the last all the others."""
    if beside:
        return [1] * (sequences - 1) + [tokens - sequences + 1]
    return [tokens // sequences + (sequence < tokens % sequences) for sequence in range(sequences)]


@contextmanager
def _filled(model: llama_cpp.llama_model_p, options: argparse.Namespace) -> Iterator[Cells]:
    own = options.cells == "own"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = options.depth * (options.sequences if own else 1) + max(options.sizes)
    params.n_batch = params.n_ubatch = _CHUNK
    params.n_seq_max, params.kv_unified = options.sequences, True
    params.n_threads = params.n_threads_batch = options.threads
    context = llama_cpp.llama_init_from_model(model, params)
    cells = Cells(context, options.sequences, options.depth, own=own)
    try:
        yield cells
    finally:
        cells.close()
        llama_cpp.llama_free(context)


def main() -> None:
    """Print the table."""
    options = _options()
    steps = [split(size, options.sequences, beside=options.rows == "beside") for size in options.sizes]
    with loaded(options.model, repack=options.repack == "on") as model, _filled(model, options) as cells:
        rounds = [[1000 * cells.seconds(step) for step in steps] for _ in range(options.rounds)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    rows = [["ms", *(f"{step:.0f}" for step in medians)]]
    rows.append(["ms for each token", *(f"{s / size:.1f}" for s, size in zip(medians, options.sizes, strict=True))])
    print(markdown(("tokens of a step", *map(str, options.sizes)), rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cells", choices=("shared", "own"), default="shared")
    parser.add_argument("--rows", choices=("even", "beside"), default="even")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--depth", type=int, default=820, help="cells of each sequence")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 48, 64, 104, 128], help="tokens of a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repack", choices=("on", "off"), default="on")
    options = parser.parse_args()
    if not options.sequences <= min(options.sizes) <= max(options.sizes) <= _CHUNK:
        parser.error(f"a step has at least one token of each sequence, and at most {_CHUNK} tokens")
    return options


if __name__ == "__main__":
    main()
