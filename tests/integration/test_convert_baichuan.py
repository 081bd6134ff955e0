"""A converted Baichuan computes what the authors' mathematics gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from glmserve.convert.errors import TensorShapeError, UnsupportedModelError
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.baichuan_checkpoint import (
    ALIBI,
    ALIBI_2,
    ROTARY,
    Shape,
    make_weights,
    reference_logits,
    write_checkpoint,
)
from tests.support.chatglm2_checkpoint import Weights
from tests.support.native import logits_of, quantize

TOLERANCE = 1e-3
"""On logits of deviation 3; seen: 4e-5."""

WIDE = Shape(hidden=256, heads=2, ffn=288, layers=32, vocab=512)
"""Rows that take K-quants, but for those of ffn_down (288), as in the real model (13696)."""


def prompt_of(length: int) -> list[int]:
    return [int(i) for i in np.random.Generator(np.random.PCG64(length)).integers(3, 400, size=length)]


def largest_difference(shape: Shape, weights: Weights, gguf: Path, lengths: tuple[int, ...]) -> float:
    prompts = [prompt_of(n) for n in lengths]
    differences = [
        float(np.abs(logits - reference_logits(shape, weights, prompt)).max())
        for logits, prompt in zip(logits_of(gguf, prompts, threads=1), prompts, strict=True)
    ]
    print(lengths, differences)
    return max(differences)


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        (ALIBI, (10, 100)),
        pytest.param(ALIBI, (600,), marks=pytest.mark.slow),
        (ALIBI_2, (10, 100)),
        (ROTARY, (10, 100)),
    ],
    ids=["13b", "13b, long", "2-13b", "7b"],
)
def test_logits_equal_those_of_the_authors_mathematics(
    shape: Shape, lengths: tuple[int, ...], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    weights = make_weights(shape, 1)
    folder = write_checkpoint(tmp_path / "hf", shape, weights, dtype="F16")
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    difference = largest_difference(shape, weights, tmp_path / "m.gguf", lengths)
    record_property("largest difference of logits", difference)
    assert difference <= TOLERANCE


def test_a_wrong_split_of_the_fused_matrix_would_be_seen(tmp_path: Path) -> None:
    weights = make_weights(ALIBI, 1)
    swapped = {
        name: np.roll(tensor, ALIBI.hidden, axis=0) if "W_pack" in name else tensor for name, tensor in weights.items()
    }
    convert_checkpoint(write_checkpoint(tmp_path / "hf", ALIBI, swapped), tmp_path / "m.gguf", QuantType.F32)
    assert largest_difference(ALIBI, weights, tmp_path / "m.gguf", (10,)) > 1000 * TOLERANCE


def test_without_normalising_the_head_of_baichuan2_the_logits_would_be_others(tmp_path: Path) -> None:
    weights = make_weights(ALIBI_2, 1)
    folder = write_checkpoint(tmp_path / "hf", ALIBI_2, weights)
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32, family=FamilyName.BAICHUAN)
    assert largest_difference(ALIBI_2, weights, tmp_path / "m.gguf", (10,)) > 100 * TOLERANCE


@pytest.mark.parametrize(
    "quant",
    [
        QuantType.Q4_K_M,
        *(pytest.param(at, marks=pytest.mark.slow) for at in (QuantType.Q4_0, QuantType.Q2_K, QuantType.Q3_K_M)),
    ],
)
def test_types_and_bytes_are_those_of_llama_cpp(quant: QuantType, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", WIDE, make_weights(WIDE, 1), dtype="BF16")
    convert_checkpoint(folder, tmp_path / "f32.gguf", QuantType.F32)
    convert_checkpoint(folder, tmp_path / "ours.gguf", quant)
    quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", quant.file_type)
    ours, theirs = GGUFReader(tmp_path / "ours.gguf"), GGUFReader(tmp_path / "theirs.gguf")
    expected = {t.name: t for t in theirs.tensors}
    assert {t.name: t.tensor_type for t in ours.tensors} == {n: t.tensor_type for n, t in expected.items()}
    assert [t.name for t in ours.tensors if t.data.tobytes() != expected[t.name].data.tobytes()] == []


def test_the_report_says_what_was_decided_and_from_what(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", ALIBI_2, make_weights(ALIBI_2, 1))
    report = convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)
    assert report.findings == (
        "Baichuan2 (by z_loss_weight): the rows of lm_head are normalised",
        "40 layers: ALiBi, as in the 13B models",
    )


def test_another_number_of_layers_is_refused_because_llama_cpp_would_leave_positions_out(tmp_path: Path) -> None:
    shape = replace(ALIBI, layers=2)
    folder = write_checkpoint(tmp_path / "hf", shape, make_weights(shape, 1))
    with pytest.raises(UnsupportedModelError, match=r"num_hidden_layers is 2; llama\.cpp knows a Baichuan of 32"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)


def test_a_fused_matrix_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    weights = make_weights(ALIBI, 1)
    name = "model.layers.3.self_attn.W_pack.weight"
    weights[name] = weights[name][:-1]
    folder = write_checkpoint(tmp_path / "hf", ALIBI, weights)
    with pytest.raises(TensorShapeError, match=rf"{name} has shape \[479, 160\] and config.json requires \[480, 160\]"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)
