"""A LoRA adapter as a GGUF of its own, which llama.cpp applies beside the base model."""

import re
from math import sqrt

from glmserve.convert.adapters.peft_lora import Adapter, LoraPair
from glmserve.convert.errors import AdapterError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.chatglm import ARCHITECTURE
from glmserve.convert.plan import ConversionPlan, plan_tensors
from glmserve.convert.quantize.recipes import QuantType

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
