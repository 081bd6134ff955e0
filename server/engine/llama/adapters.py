"""The adapters of a loaded model: LoRAs that llama.cpp applies, and P-Tuning prefixes that are loaded into cells.

P-Tuning v2 runs on unmodified llama.cpp. The authors' code puts ``length`` keys and values in front of every layer's
own. Its keys carry no rotation while the first real token stands at position 0, and every token sees the whole prefix.
In llama.cpp a key's position is part of it, so the prefix keys are rotated once by ``length`` positions and the prompt
starts at position ``length``: all relative positions come out the same. They get into the cells as a sequence state:
that of ``length`` arbitrary tokens is read, its keys and values are replaced, and it is set again.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.config import Adapter
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.adapter_check import check_adapter, check_prefix
from glmserve.engine.gguf.gguf_check import ModelFacts, RopeFacts
from glmserve.engine.gguf.gguf_header import TensorEntry
from glmserve.engine.kv_cache.prefix_keys import LoadedAdapter, adapter_number

_ELEMENT_TYPES: dict[int, type[np.floating]] = {0: np.float32, 1: np.float16}
"""GGML_TYPE_F32 and GGML_TYPE_F16: the cache types that a prefix can be written in."""


@dataclass(frozen=True, slots=True)
class KvPrefix:
    """A P-Tuning prefix."""

    keys: NDArray[np.float32]
    """Not rotated; shape [layers, length, key-value heads * head size]."""
    values: NDArray[np.float32]
    """Same shape."""

    @property
    def length(self) -> int:
        """Cells it takes."""
        return int(self.keys.shape[1])


def read_prefix(path: Path, model: ModelFacts) -> KvPrefix:
    """Read a prefix made by ``glmserve convert`` and check that it belongs to a model of this shape.

    Raises:
        ModelLoadError: with one line that says what is wrong.
    """
    _, tensors = check_prefix(path, model)
    keys, values = ([f"blk.{layer}.prefix_{kind}" for layer in range(model.layers)] for kind in "kv")
    try:
        return KvPrefix(*(np.stack([_values(path, tensors[name]) for name in names]) for names in (keys, values)))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path.name}: changed while it was read ({error}); try again") from error


def _values(path: Path, tensor: TensorEntry) -> NDArray[np.float32]:
    count = tensor.nbytes // np.dtype(np.float32).itemsize
    return np.fromfile(path, np.float32, count, offset=tensor.offset).reshape(tensor.shape)


def rotate(keys: NDArray[np.float32], position: int, rope: RopeFacts, head_size: int) -> NDArray[np.float32]:
    """Rotate ``keys`` [..., heads * head size] to ``position``: adjacent pairs of the first dimensions of each head."""
    pairs = np.arange(rope.dimensions // 2)
    angles = position * rope.scale * rope.base ** (-2.0 * pairs / rope.dimensions)
    turned = keys.astype(np.float64).reshape(*keys.shape[:-1], -1, head_size)
    even, odd = turned[..., 0 : rope.dimensions : 2].copy(), turned[..., 1 : rope.dimensions : 2].copy()
    turned[..., 0 : rope.dimensions : 2] = even * np.cos(angles) - odd * np.sin(angles)
    turned[..., 1 : rope.dimensions : 2] = even * np.sin(angles) + odd * np.cos(angles)
    return turned.reshape(keys.shape).astype(np.float32)


def patch_state(state: bytearray, keys: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Replace all keys and values in a sequence state of as many cells, as ``llama_state_seq_get_data`` lays it out.

    That is: magic, slot, streams and cells as 32-bit numbers; position, owners and owner of each cell; whether values
    are transposed; the number of layers; then for all layers the keys, then the values, each after its type and size.

    Raises:
        ModelLoadError: the state is laid out in a way that is not known here.
    """
    layers, cells = keys.shape[:2]
    magic_slot_streams_cells = struct.unpack_from("<4I", state)
    at = 16 + 12 * cells
    transposed, found_layers = struct.unpack_from("<2I", state, at)
    if magic_slot_streams_cells[2:] != (1, cells) or found_layers != layers:
        raise ModelLoadError("the KV cache layout of this llama.cpp does not support prefixes")
    at += 8
    for layer in keys:
        at = _put(state, at, layer, struct.calcsize("<iQ"))
    for layer in values:
        at = _put(state, at, layer.T, struct.calcsize("<iII")) if transposed else _put(state, at, layer, 12)
    if at != len(state):
        raise ModelLoadError(f"{len(state) - at} bytes of a sequence state could not be parsed")


def _put(state: bytearray, at: int, rows: NDArray[np.float32], header: int) -> int:
    """Write ``rows`` behind their ``header`` bytes, in the element type that it names; return the rest."""
    (kind,) = struct.unpack_from("<i", state, at)
    if kind not in _ELEMENT_TYPES:
        raise ModelLoadError("a prefix needs a KV cache of type f16 or f32")
    data = np.ascontiguousarray(rows, _ELEMENT_TYPES[kind]).tobytes()
    start = at + header
    state[start : start + len(data)] = data
    return start + len(data)


class Adapters:
    """Loads all adapters when made."""

    def __init__(
        self,
        adapters: tuple[Adapter, ...],
        facts: ModelFacts,
        model: llama_cpp.llama_model_p,
        slots: int,
    ) -> None:
        """Raises ModelLoadError where a file does not fit the model, or prefixes take all ``slots``."""
        if (prefixes := sum(adapter.prefix is not None for adapter in adapters)) >= slots:
            raise ModelLoadError(
                f"{prefixes} P-Tuning prefixes leave no sequence slot for a request: this model has {slots} slots and "
                "each prefix keeps one; serve some of the prefixes from a second [[models]] table"
            )
        self._facts = facts
        self._adapter = 0
        self._prefixes: dict[str, KvPrefix] = {
            adapter.name: read_prefix(adapter.prefix, facts) for adapter in adapters if adapter.prefix
        }
        self._adapters: dict[int, llama_cpp.llama_adapter_lora_p] = {
            number: _load_adapter(adapter.lora, facts, model)
            for number, adapter in enumerate(adapters, 1)
            if adapter.lora
        }
        self.loaded: Mapping[str, LoadedAdapter] = {
            adapter.name: LoadedAdapter(number, number in self._adapters, self._prefix_length(adapter.name))
            for number, adapter in enumerate(adapters, 1)
        }

    def write_prefix(self, name: str, state: bytearray) -> None:
        """Put the prefix of ``name`` into a sequence state of as many cells."""
        prefix, facts = self._prefixes[name], self._facts
        patch_state(state, rotate(prefix.keys, prefix.length, facts.rope, facts.head_size), prefix.values)

    @property
    def prefix_cells(self) -> int:
        """Cells that the prefixes take for good."""
        return sum(prefix.length for prefix in self._prefixes.values())

    def use_adapter(self, context: llama_cpp.llama_context_p, salt: int) -> None:
        """Have the next batch computed with the adapter that sequences of this ``salt`` want, or with none."""
        number = adapter_number(salt)
        if number == self._adapter:
            return
        self._adapter = number
        chosen = [self._adapters[number]] if number else []
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
        scales = (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))
        llama_cpp.llama_set_adapters_lora(context, adapters, len(chosen), scales)

    def close(self) -> None:
        """Free the adapters; the context that used them must be gone."""
        for adapter in self._adapters.values():
            llama_cpp.llama_adapter_lora_free(adapter)

    def _prefix_length(self, name: str) -> int:
        return self._prefixes[name].length if name in self._prefixes else 0


def _load_adapter(path: Path, facts: ModelFacts, model: llama_cpp.llama_model_p) -> llama_cpp.llama_adapter_lora_p:
    check_adapter(path, facts)
    adapter = llama_cpp.llama_adapter_lora_init(model, os.fsencode(path))
    if not adapter:
        raise ModelLoadError(
            f"{path.name}: llama.cpp does not load this adapter for {facts.path.name}; the log says why"
        )
    return adapter
