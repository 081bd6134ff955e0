"""The adapters of a loaded model: LoRAs that llama.cpp applies, prefixes that are loaded into cells."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import llama_cpp

from glmserve.engine.config import Variant
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.gguf.variant_check import check_adapter
from glmserve.engine.llama.ptuning_prefix import KvPrefix, patch_state, read_prefix, rotate
from glmserve.engine.scheduler.adapters import LoadedVariant, adapter_number


class Adapters:
    """Loads all variants when made."""

    def __init__(
        self,
        variants: tuple[Variant, ...],
        facts: ModelFacts,
        model: llama_cpp.llama_model_p,
    ) -> None:
        """Raises ModelLoadError where a file does not fit the model."""
        self._facts = facts
        self._adapter = 0
        self._prefixes: dict[str, KvPrefix] = {
            variant.name: read_prefix(variant.prefix, facts) for variant in variants if variant.prefix
        }
        self._adapters: dict[int, llama_cpp.llama_adapter_lora_p] = {
            number: _load_adapter(variant.adapter, facts, model)
            for number, variant in enumerate(variants, 1)
            if variant.adapter
        }
        self.loaded: Mapping[str, LoadedVariant] = {
            variant.name: LoadedVariant(number, number in self._adapters, self._prefix_length(variant.name))
            for number, variant in enumerate(variants, 1)
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
