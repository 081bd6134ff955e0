"""LoRA adapters as PEFT saves them: a folder with adapter_config.json and one file of weights.

For a matrix W of the base model the adapter holds A (rank x columns) and B (rows x rank); the tuned matrix is
W + alpha / rank * B A, or with ``use_rslora`` W + alpha / sqrt(rank) * B A.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.config import ConfigFile, model_name, read_json_object
from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource, open_file
from glmserve.convert.errors import AdapterError, MissingFileError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.chatglm import ARCHITECTURE
from glmserve.convert.plan import ConversionPlan, plan_tensors
from glmserve.convert.quantize.recipes import QuantType

CONFIG_FILE = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_PART = re.compile(r"(?:module\.)?(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The two factors of an adapter for one matrix."""

    down: str
    """Name of A in the adapter."""
    up: str
    """Name of B in the adapter."""
    rank: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, checked; its weights are read when needed."""

    path: Path
    """The file of weights."""
    name: str
    source: TensorSource
    pairs: Mapping[str, LoraPair]
    """By the name of the base model's tensor."""
    alpha: float
    is_rank_stabilized: bool

    def scale(self, pair: LoraPair) -> float:
        """Factor of the product B A."""
        return self.alpha / (sqrt(pair.rank) if self.is_rank_stabilized else pair.rank)

    def change(self, pair: LoraPair, first: int, count: int) -> NDArray[np.float32]:
        """Return some rows of the change that the adapter adds to a matrix."""
        up = self.source.read_rows(pair.up, first, count)
        down = self.source.read_rows(pair.down, 0, pair.rank)
        change: NDArray[np.float32] = (up * np.float32(self.scale(pair))) @ down
        return change


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder is a PEFT adapter."""
    return (folder / CONFIG_FILE).exists()


def read_adapter(folder: Path) -> Adapter:
    """Read the configuration of an adapter and find its matrices.

    Raises:
        CheckpointError: a file is missing or damaged.
        AdapterError: it is of a kind that is not converted.
    """
    path = folder / CONFIG_FILE
    advice = "an adapter is a folder that PEFT's save_pretrained wrote"
    config = ConfigFile(path, read_json_object(path, advice))
    _check_kind(config)
    weights = next((folder / name for name in _WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise MissingFileError(folder / _WEIGHTS[0], "the adapter's weights are in it")
    source = open_file(weights)
    return Adapter(
        path=weights,
        name=model_name(folder),
        source=source,
        pairs=_find_pairs(weights, source),
        alpha=config.positive_number("lora_alpha"),
        is_rank_stabilized=config.raw.get("use_rslora") is True,
    )


def _check_kind(config: ConfigFile) -> None:
    kind = config.raw.get("peft_type", "LORA")
    bias = config.raw.get("bias", "none")
    start = str(config.raw.get("init_lora_weights")).lower()
    problems = (
        (kind != "LORA", f"it is of the kind {kind}, and only LORA is converted"),
        (config.raw.get("fan_in_fan_out"), "fan_in_fan_out is set, so its matrices are transposed"),
        (config.raw.get("use_dora"), "it is a DoRA, which llama.cpp cannot apply"),
        (config.raw.get("alpha_pattern"), "alpha_pattern gives its matrices different scales"),
        (bias != "none", f"it also trains biases (bias is {bias})"),
        # These take something off the base model's weights before they train, or quantise them.
        (start.startswith(_CHANGE_THE_BASE), f"it starts from a changed base model ({start})"),
        (config.raw.get("loftq_config"), "it starts from a changed base model (loftq_config)"),
        (config.raw.get("layer_replication"), "layer_replication repeats layers of the base model"),
        (config.raw.get("modules_to_save"), "modules_to_save holds whole layers beside the LoRA"),
    )
    for wrong, what in problems:
        if wrong:
            raise AdapterError(config.path, what)


def _find_pairs(path: Path, source: TensorSource) -> Mapping[str, LoraPair]:
    parts: dict[str, dict[str, str]] = {}
    for name in source.names():
        match = _PART.fullmatch(name)
        if match is None:
            raise AdapterError(path, f"tensor {name} is no part of a LoRA")
        parts.setdefault(match["module"], {})[match["part"]] = name
    if not parts:
        raise AdapterError(path, "it holds no tensors")
    return {f"{module}.weight": _pair(path, source, module, names) for module, names in parts.items()}


def _pair(path: Path, source: TensorSource, module: str, names: Mapping[str, str]) -> LoraPair:
    if set(names) != {"A", "B"}:
        raise AdapterError(path, f"{module} has lora_{''.join(names)} without the other half")
    down, up = source.info(names["A"]).shape, source.info(names["B"]).shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or down[0] == 0:
        raise AdapterError(path, f"{module} has lora_A {list(down)} and lora_B {list(up)}, which do not fit together")
    return LoraPair(names["A"], names["B"], rank=down[0], rows=up[0], columns=down[1])


class MergedTensors:
    """A TensorSource that shows the base model's matrices with the adapter's changes added."""

    def __init__(self, source: TensorSource, adapter: Adapter) -> None:
        """Raises AdapterError where the adapter was made for another model."""
        self._source = source
        self._adapter = adapter
        names = frozenset(source.names())
        for name, pair in adapter.pairs.items():
            shape = source.info(name).shape if name in names else None
            if shape != (pair.rows, pair.columns):
                found = f"has shape {list(shape)}" if shape else "does not exist"
                raise AdapterError(
                    adapter.path, f"it changes {name} of [{pair.rows}, {pair.columns}], which {found} in the base model"
                )

    def names(self) -> tuple[str, ...]:
        """Return the names of the base model's tensors."""
        return self._source.names()

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor; raises MissingTensorError."""
        return self._source.info(name)

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows as float32; raises as the source does."""
        rows = self._source.read_rows(name, first, count)
        pair = self._adapter.pairs.get(name)
        return rows if pair is None else rows + self._adapter.change(pair, first, count)


_TARGETS = {
    "self_attention.query_key_value.weight": "attn_qkv.weight",
    "self_attention.dense.weight": "attn_output.weight",
    "mlp.dense_h_to_4h.weight": "ffn_up.weight",
    "mlp.dense_4h_to_h.weight": "ffn_down.weight",
}
_LAYER = re.compile(r"transformer\.encoder\.layers\.(\d+)\.(.+)")


def plan_adapter(adapter: Adapter) -> ConversionPlan:
    """Plan an adapter's own file.

    Raises:
        AdapterError: llama.cpp cannot apply it to a ChatGLM.
    """
    table = tuple(mapping for name, pair in _in_order(adapter) for mapping in _mappings(adapter, name, pair))
    ranks = sorted({pair.rank for pair in adapter.pairs.values()})
    return plan_tensors(
        adapter.source,
        table,
        QuantType.F32,  # with matrices in float16, llama.cpp would round what it multiplies them by
        {
            "general.architecture": ARCHITECTURE,
            "general.type": "adapter",
            "general.name": adapter.name,
            "adapter.type": "lora",
            "adapter.lora.alpha": _native_alpha(adapter, ranks),
        },
        (f"adapter: LoRA of rank {', '.join(map(str, ranks))} on {len(adapter.pairs)} matrices",),
    )


def _native_alpha(adapter: Adapter, ranks: list[int]) -> float:
    """llama.cpp always multiplies by alpha / rank."""
    if not adapter.is_rank_stabilized:
        return adapter.alpha
    if len(ranks) > 1:
        raise AdapterError(adapter.path, "use_rslora with several ranks; merge it with --merge-lora instead")
    return adapter.alpha * sqrt(ranks[0])


def _in_order(adapter: Adapter) -> list[tuple[str, LoraPair]]:
    return sorted(adapter.pairs.items(), key=lambda item: _place(adapter, item[0]))


def _place(adapter: Adapter, name: str) -> tuple[int, str]:
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in _TARGETS:
        raise AdapterError(adapter.path, f"it changes {name}, which no ChatGLM adapter can; try --merge-lora instead")
    return int(match[1]), _TARGETS[match[2]]


def _mappings(adapter: Adapter, name: str, pair: LoraPair) -> tuple[TensorMapping, TensorMapping]:
    layer, tensor = _place(adapter, name)
    target = f"blk.{layer}.{tensor}"
    return (
        TensorMapping(pair.down, f"{target}.lora_a", (pair.rank, pair.columns), layer),
        TensorMapping(pair.up, f"{target}.lora_b", (pair.rows, pair.rank), layer),
    )
