"""A LoRA merged into the weights and one applied by llama.cpp are the same model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFReader

from glmserve.convert.cli import convert
from glmserve.convert.errors import AdapterError, ConvertError, MissingFileError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import Adapter, Device, EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.sequence import Sequence
from tests.reference.numpy_chatglm2 import forward
from tests.support import baichuan_checkpoint
from tests.support.chatglm2_checkpoint import SMALL, Weights, make_weights, write_checkpoint
from tests.support.native import logits_of
from tests.support.native_context import exact_cache, last_logits
from tests.support.tuned_checkpoint import ALPHA, MODULES, RANK, make_lora, tuned, write_adapter

PROMPT = [5, 99, 300, 17, 42, 8, 7, 111]
TOLERANCE = 1e-3


def applied_logits(model: Path, adapter: Path) -> np.ndarray:
    """What the engine computes with the adapter."""
    adapters = (Adapter("tuned", lora=adapter),)
    config = EngineConfig(
        model, context_length=256, parallel=1, threads=1, threads_batch=1, device=Device.CPU, adapters=adapters
    )
    with exact_cache():
        runner = LlamaModelRunner(config, check_gguf(model))
    loaded = runner.adapters["tuned"]
    sequence = Sequence(1, loaded.key(tuple(PROMPT)), SamplingParams(max_tokens=1), 1, loaded.salt)
    runner.decode((BatchItem(sequence, 0, 0, sequence.prompt_ids, True),))
    logits = last_logits(runner)
    runner.close()
    return logits


@pytest.mark.parametrize(
    ("modules", "as_bin", "dtype", "stabilized"),
    [(MODULES, False, "F32", False), (MODULES[:1], True, "F16", False), (MODULES[1:], False, "BF16", True)],
    ids=["all, f32", "attention, f16 .bin", "rslora, bf16"],
)
def test_merged_and_applied_are_the_equation(
    tmp_path: Path, modules: tuple[str, ...], as_bin: bool, dtype: str, stabilized: bool
) -> None:
    weights = make_weights(SMALL, 4)
    keep = (
        (lambda x: x.astype(np.float16).astype(np.float32)) if dtype == "F16" else _bf16 if dtype == "BF16" else _same
    )
    lora = {name: keep(tensor) for name, tensor in make_lora(weights, modules).items()}
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    adapter = write_adapter(tmp_path / "my-lora", lora, {"use_rslora": stabilized}, as_bin=as_bin, dtype=dtype)
    convert_checkpoint(folder, tmp_path / "base.gguf", QuantType.F32)
    merged = convert_checkpoint(folder, tmp_path / "merged.gguf", QuantType.F32, merge_lora=adapter)
    small = convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.Q4_K_M)
    expected = forward(tuned(weights, lora, ALPHA / (RANK**0.5 if stabilized else RANK)), SMALL, PROMPT)[-1]
    base, together = (logits_of(tmp_path / f"{name}.gguf", [PROMPT])[0][-1] for name in ("base", "merged"))
    applied = applied_logits(tmp_path / "base.gguf", tmp_path / "lora.gguf")
    print("merged", np.abs(together - expected).max(), "applied", np.abs(applied - expected).max())
    assert np.abs(together - expected).max() <= TOLERANCE
    assert np.abs(applied - expected).max() <= TOLERANCE
    assert np.abs(base - expected).max() > 100 * TOLERANCE, "the adapter changes nothing, so this proves nothing"
    assert merged.findings[-1] == f"adapter: my-lora merged into {3 * len(modules)} matrices"
    assert small.findings == (f"adapter: LoRA of rank {RANK} on {3 * len(modules)} matrices",)
    assert small.quant is QuantType.F32


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _bf16(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) >> 16 << 16).view(np.float32)


@pytest.mark.parametrize("shape", [baichuan_checkpoint.ALIBI, baichuan_checkpoint.ROTARY], ids=["alibi", "rotary"])
def test_matrices_that_conversion_splits_are_merged_before(shape: baichuan_checkpoint.Shape, tmp_path: Path) -> None:
    """Baichuan's W_pack, which adapters know and the file does not."""
    weights = baichuan_checkpoint.make_weights(shape, 3)
    rng = np.random.default_rng(2)
    lora: Weights = {}
    for name in [n for n in weights if n.endswith(("W_pack.weight", "o_proj.weight"))]:
        rows, columns = weights[name].shape
        module = "base_model.model." + name.removesuffix(".weight")
        lora[f"{module}.lora_A.weight"] = rng.normal(size=(RANK, columns), scale=0.1).astype(np.float32)
        lora[f"{module}.lora_B.weight"] = rng.normal(size=(rows, RANK), scale=0.1).astype(np.float32)
    folder = baichuan_checkpoint.write_checkpoint(tmp_path / "hf", shape, weights)
    by_hand = baichuan_checkpoint.write_checkpoint(tmp_path / "hand", shape, tuned(weights, lora, ALPHA / RANK))
    adapter = write_adapter(tmp_path / "lora", lora)
    convert_checkpoint(folder, tmp_path / "merged.gguf", QuantType.F32, merge_lora=adapter)
    convert_checkpoint(by_hand, tmp_path / "hand.gguf", QuantType.F32)
    expected = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "hand.gguf").tensors}
    for tensor in GGUFReader(tmp_path / "merged.gguf").tensors:
        np.testing.assert_allclose(tensor.data, expected[tensor.name], atol=1e-6)
    with pytest.raises(AdapterError, match="try --merge-lora"):
        convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.F32)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, _same, "of the kind PREFIX_TUNING"),
        ({"fan_in_fan_out": True}, _same, "fan_in_fan_out"),
        ({"use_dora": True}, _same, "DoRA"),
        ({"bias": "all"}, _same, "biases"),
        ({"modules_to_save": ["lm_head"]}, _same, "whole layers"),
        ({"init_lora_weights": "pissa_niter_4"}, _same, "changed base model"),
        ({"init_lora_weights": "loftq"}, _same, "changed base model"),
        ({"loftq_config": {"loftq_bits": 4}}, _same, "changed base model .loftq"),
        ({"init_lora_weights": "lora_ga"}, _same, "changed base model"),
        ({"layer_replication": [[0, 4]]}, _same, "layer_replication"),
        ({"alpha_pattern": {"dense": 3}}, _same, "alpha_pattern"),
        ({}, lambda lora: {"x.lora_embedding_A": np.ones((1, 1), np.float32)}, "no part of a LoRA"),
        ({}, lambda lora: {n: t[:0] if "lora_A" in n else t[:, :0] for n, t in lora.items()}, "do not fit together"),
        ({}, lambda lora: {n: t for n, t in lora.items() if "lora_A" in n}, "without the other half"),
        ({}, lambda lora: {n: t[:3] if "lora_A" in n else t for n, t in lora.items()}, "do not fit together"),
        ({}, lambda lora: {n.replace("dense.", "nope."): t for n, t in lora.items()}, "changes transformer.*nope"),
    ],
)
def test_an_adapter_that_would_be_applied_wrongly_is_refused(
    tmp_path: Path, config: dict[str, object], change: Callable[[Weights], Weights], message: str
) -> None:
    lora = change(make_lora(make_weights(SMALL, 4), ("self_attention.dense",)))
    adapter = write_adapter(tmp_path / "lora", lora, config)
    with pytest.raises(AdapterError, match=message) as caught:
        convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.F32)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lora.gguf").exists()


def test_an_adapter_for_another_model_is_not_merged(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 4)
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    lora = make_lora(weights, ("mlp.dense_4h_to_h",))
    narrow = {name: tensor[:, :100] if "lora_A" in name else tensor for name, tensor in lora.items()}
    adapter = write_adapter(tmp_path / "lora", narrow)
    with pytest.raises(AdapterError, match=r"of \[512, 100\], which has shape \[512, 224\] in the base model"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32, merge_lora=adapter)
    other = {name.replace("layers.2", "layers.7"): tensor for name, tensor in lora.items()}
    with pytest.raises(AdapterError, match=r"layers\.7.*does not exist in the base model"):
        convert_checkpoint(
            folder, tmp_path / "m.gguf", QuantType.F32, merge_lora=write_adapter(tmp_path / "other", other)
        )


def test_an_adapter_for_another_model_is_not_served(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "lora", make_lora(make_weights(SMALL, 4)))
    convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.F32)
    other = replace(SMALL, ffn=256)
    convert_checkpoint(
        write_checkpoint(tmp_path / "hf", other, make_weights(other, 4)), tmp_path / "m.gguf", QuantType.F32
    )
    with pytest.raises(ModelLoadError, match=r"blk.0.ffn_down.weight.*a model of another shape"):
        applied_logits(tmp_path / "m.gguf", tmp_path / "lora.gguf")


def test_an_adapter_without_weights_is_named(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "lora", {})
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"adapter_model\.safetensors is missing"):
        convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.F32)


def test_an_adapter_cannot_be_merged_into_an_adapter(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "lora", make_lora(make_weights(SMALL, 4)))
    with pytest.raises(ConvertError, match="takes no --merge-lora"):
        convert_checkpoint(adapter, tmp_path / "lora.gguf", QuantType.F32, merge_lora=adapter)


def test_the_command_merges_and_names_a_small_file_after_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_weights(SMALL, 4)
    write_checkpoint(tmp_path / "hf", SMALL, weights)
    write_adapter(tmp_path / "mine", make_lora(weights))
    monkeypatch.chdir(tmp_path)
    merged = CliRunner().invoke(convert, ["hf", "--merge-lora", "mine", "-q", "q8_0"])
    assert "adapter: mine merged into 12 matrices" in merged.output
    small = CliRunner().invoke(convert, ["mine"])
    assert small.exit_code == 0, small.output
    assert (tmp_path / "mine.lora.gguf").exists()
