"""llama.cpp through its low-level bindings, as far as tests of files need it."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from tests.support.amx import HAS_AMX

_silent = llama_cpp.llama_log_callback(lambda _level, _text, _user_data: None)


@contextmanager
def loaded(
    path: Path, *, vocab_only: bool = False, gpu_layers: int = 0, repack: bool = not HAS_AMX
) -> Iterator[llama_cpp.llama_model_p]:
    """Load a GGUF, on the CPU unless layers are asked for on a GPU, and without AMX unless ``repack`` is asked for."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.vocab_only = vocab_only
    params.use_extra_bufts = repack
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise RuntimeError(f"llama.cpp does not load {path}")
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


class Row(NamedTuple):
    """A token of a batch."""

    token: int
    position: int
    sequence: int = 0
    logits: bool = True


def fill(batch: llama_cpp.llama_batch, rows: Sequence[Row]) -> None:
    """Make ``batch``, which has room for them, consist of ``rows``."""
    batch.n_tokens = len(rows)
    for i, row in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = row.token, row.position, row.logits
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, row.sequence


def decode(context: llama_cpp.llama_context_p, batch: llama_cpp.llama_batch) -> None:
    """Compute ``batch``. Raises RuntimeError."""
    if llama_cpp.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")


def logits_of(path: Path, prompts: Sequence[Sequence[int]], *, threads: int = 2) -> list[NDArray[np.float32]]:
    """Return the logits at every position of each prompt, shape [tokens, vocabulary]; cache in float32."""
    with loaded(path) as model:
        return [compute_logits(model, prompt, threads=threads) for prompt in prompts]


def compute_logits(
    model: llama_cpp.llama_model_p,
    prompt: Sequence[int],
    *,
    threads: int = 2,
    cache_type: int = llama_cpp.GGML_TYPE_F32,
) -> NDArray[np.float32]:
    """Return the logits at every position of ``prompt``; a cache other than float32 goes with flash attention."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = len(prompt) + 8
    params.n_seq_max = 1
    params.type_k = params.type_v = cache_type
    params.flash_attn_type = int(cache_type != llama_cpp.GGML_TYPE_F32)
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(prompt), 0, 1)
    try:
        fill(batch, [Row(token, position) for position, token in enumerate(prompt)])
        decode(context, batch)
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        values = llama_cpp.llama_get_logits(context)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(values, shape=(len(prompt), width)).copy()
        return logits
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


class Tokenizer:
    """llama.cpp's tokenizer on a GGUF's vocabulary."""

    def __init__(self, model: llama_cpp.llama_model_p) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocab))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of ``text``."""
        data = text.encode("utf-8")
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, room, False, special)
        return list(ids[:count])

    def ends(self) -> set[int]:
        """Return the ids that end a generation."""
        return {i for i in range(self.size) if llama_cpp.llama_vocab_is_eog(self._vocab, i)}


def quantize(
    source: Path, out: Path, file_type: int, importance: Mapping[str, NDArray[np.float32]] | None = None
) -> None:
    """Run llama.cpp's own quantisation of a GGUF."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = 2
    entries = [
        llama_cpp.llama_model_imatrix_data(
            name.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size
        )
        for name, values in (importance or {}).items()
    ]
    ended = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))(*entries)
    if importance:
        params.imatrix = ended
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) != 0:
        raise RuntimeError("llama_model_quantize failed")
