"""Loads a model's weights, or its vocabulary alone, and gives back memory that loading leaves behind.

Loading leaves two things in the resident set: the pages of the mapped model file, of which the CPU holds repacked
copies, and the KV cache, which is zeroed when it is made. Giving either back changes nothing that can be read: a page
of the file comes back from the page cache when it is used, and a dropped page of zeros comes back as zeros.
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ctypes import c_void_p
from dataclasses import dataclass, replace
from mmap import MADV_DONTNEED, MADV_HUGEPAGE
from pathlib import Path

import llama_cpp
import numpy as np

from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import SEE_LOG, ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts, check_gguf
from glmserve.engine.llama.placement import Placement, place, probe

_llama_log = logging.getLogger("glmserve.engine.llama_cpp")

_LEVELS = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
"""enum ggml_log_level of ggml.h. Its INFO (2) is a page of text at every load, which is DEBUG to us."""


_HARMLESS = ("possible training context overflow",)
"""Warnings that do not hold here: the context is the cells of all sequences, and each is kept to its own length."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _receive(level: int, text: bytes, _user_data: c_void_p) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if line and level in _LEVELS and not any(harmless in line for harmless in _HARMLESS):
        _llama_log.log(_LEVELS[level], "%s", line)


def route_log() -> None:
    """Send llama.cpp's messages to logging, for the rest of the process's life."""
    llama_cpp.llama_log_set(_receive, None)


log = logging.getLogger(__name__)

CHUNK_BYTES = 2 * 2**20
"""Unit of scanning and releasing: a huge page, so that none has to be split."""

_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/self/maps."""

    start: int
    end: int
    access: str
    """As there: "rw-p" is private and writable."""
    name: str
    """Path of the file, or empty."""


def read_mappings(text: str) -> tuple[Mapping, ...]:
    """Parse ``text`` of /proc/self/maps."""
    mappings = []
    for line in text.splitlines():
        span, access, _offset, _device, _inode, *name = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in span.split("-"))
        mappings.append(Mapping(start, end, access, name[0] if name else ""))
    return tuple(mappings)


def new_spans(before: tuple[Mapping, ...], after: tuple[Mapping, ...]) -> list[tuple[int, int]]:
    """Return the addresses of private memory without a file that are mapped ``after`` and were not ``before``.

    The kernel makes one mapping of neighbours, so a new one may show as an old one that has grown.
    """
    spans = [(m.start, m.end) for m in after if m.access == "rw-p" and not m.name]
    for old in before:
        below = [(start, min(end, old.start)) for start, end in spans]
        above = [(max(start, old.end), end) for start, end in spans]
        spans = [(start, end) for start, end in below + above if start < end]
    return spans


def release_file(path: Path) -> None:
    """Drop the pages of ``path`` from the resident set of this process; used ones are paged in again."""
    for mapping in read_mappings(_MAPS.read_text()):
        if mapping.name == str(path.resolve()):
            _advise(mapping.start, mapping.end - mapping.start, MADV_DONTNEED)


@contextmanager
def zeros_released(*, huge_pages: bool = False) -> Iterator[None]:
    """Release memory allocated inside that holds zeros alone; no other thread may be writing to it then.

    With ``huge_pages`` it comes back in pages of 2 MiB where the kernel has them, not in the order of its use.
    """
    before = read_mappings(_MAPS.read_text())
    yield
    spans = new_spans(before, read_mappings(_MAPS.read_text()))
    released = sum(_release_zeros(*span) for span in spans)
    for start, end in spans if huge_pages else ():
        _advise(start, end - start, MADV_HUGEPAGE)
    log.debug("%d MiB of zero pages were released until they are written", released >> 20)


def _release_zeros(start: int, end: int) -> int:
    """Drop the chunks between the addresses that hold zeros alone; return their bytes."""
    first = -(-start // CHUNK_BYTES) * CHUNK_BYTES
    count = max(0, end // CHUNK_BYTES - first // CHUNK_BYTES)
    if not count:
        return 0
    memory = (ctypes.c_uint64 * (count * CHUNK_BYTES // 8)).from_address(first)
    chunks = np.ctypeslib.as_array(memory).reshape(count, -1)
    empty = [index for index, chunk in enumerate(chunks) if not chunk.any()]
    for index in empty:
        _advise(first + index * CHUNK_BYTES, CHUNK_BYTES, MADV_DONTNEED)
    return len(empty) * CHUNK_BYTES


def _advise(address: int, size: int, advice: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice):
        log.debug("the kernel did not take advice %d on memory: errno %d", advice, ctypes.get_errno())


def load_vocabulary(path: Path) -> tuple[llama_cpp.llama_model_p, llama_cpp.llama_vocab_p]:
    """Check the file and load its vocabulary; the caller frees the model. Raises ModelLoadError."""
    check_gguf(path)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(f"{path.name}: the vocabulary could not be loaded")
    return model, llama_cpp.llama_model_get_vocab(model)


def stop_ids(vocab: llama_cpp.llama_vocab_p, names: Collection[str] = ()) -> frozenset[int]:
    """Return the tokens that end a generation: the file's own, and the control tokens called ``names``.

    An ordinary token of such a name is text, and ends nothing.
    """
    ids = range(int(llama_cpp.llama_vocab_n_tokens(vocab)))
    wanted = {name.encode() for name in names}
    return frozenset(i for i in ids if llama_cpp.llama_vocab_is_eog(vocab, i) or _is_control_named(vocab, i, wanted))


def _is_control_named(vocab: llama_cpp.llama_vocab_p, token_id: int, names: Collection[bytes]) -> bool:
    if not names or not llama_cpp.llama_vocab_is_control(vocab, token_id):
        return False
    return llama_cpp.llama_vocab_get_text(vocab, token_id) in names


def ordinary_tokens(vocab: llama_cpp.llama_vocab_p, count: int) -> tuple[int, ...]:
    """Return ``count`` tokens of text, as far as there are any: always the same ones of a vocabulary."""
    size = int(llama_cpp.llama_vocab_n_tokens(vocab))
    some = random.Random(count).choices(range(size), k=20 * count)
    normal = [i for i in some if llama_cpp.llama_vocab_get_attr(vocab, i) & llama_cpp.LLAMA_TOKEN_ATTR_NORMAL]
    return tuple((normal + some)[:count])


def load_weights(
    config: EngineConfig, facts: ModelFacts, placement: Placement
) -> tuple[llama_cpp.llama_model_p, Placement]:
    """Load the weights; where they do not fit on the GPU after all, AUTO uses the CPU."""
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = placement.gpu_layers
    params.use_extra_bufts = config.compute_mode.extra_buffers
    model = llama_cpp.llama_model_load_from_file(os.fsencode(facts.path), params)
    if model:
        release_file(facts.path)
        return model, placement
    if placement.gpu_layers and config.device is Device.AUTO:
        log.warning("the GPU could not load %s; running on the CPU", facts.path.name)
        cpu = replace(config, device=Device.CPU)
        return load_weights(cpu, facts, place(cpu, facts, probe()))
    raise ModelLoadError(f"{facts.path.name}: llama.cpp could not load it{SEE_LOG}")
