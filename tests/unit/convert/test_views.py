"""Packed int4 and int8 weights are unpacked to exactly what they stand for."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import open_checkpoint
from glmserve.convert.checkpoint.views import UnpackedTensors, unpack_nibbles
from glmserve.convert.errors import ConvertError, TensorShapeError, UnsupportedModelError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import SMALL, make_config, make_weights, small_tokenizer, write_checkpoint
from tests.support.torch_bin import Stored, write_bin

MATRICES = ("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight", "dense_4h_to_h.weight")


def quantized(matrix: NDArray[np.float32], bits: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """As the authors do it: absolute maximum of the row over 127 or 7, a scale in float16."""
    scale = (np.abs(matrix).max(axis=1) / (2 ** (bits - 1) - 1)).astype(np.float16)
    return np.round(matrix / scale.astype(np.float32)[:, None]).astype(np.int8), scale


def packed(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """Two values a byte, one Python number at a time: the even column above, the odd one below."""
    rows = [
        [((row[i] & 15) << 4) | (row[i + 1] & 15) for i in range(0, len(row), 2)] for row in values.tolist()
    ]  # fmt: skip
    return np.array(rows, np.uint8).view(np.int8)


def packed_checkpoint(folder: Path, bits: int) -> dict[str, NDArray[np.float32]]:
    """Write the checkpoint as published, in one .bin; return what its matrices stand for."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(make_config(SMALL) | {"quantization_bit": bits}))
    (folder / "tokenizer.model").write_bytes(small_tokenizer())
    tensors: dict[str, Stored] = {}
    meant: dict[str, NDArray[np.float32]] = {}
    for name, tensor in make_weights(SMALL, 5).items():
        if not name.endswith(MATRICES):
            tensors[name], meant[name] = Stored(tensor, "F16"), tensor
            continue
        integers, scale = quantized(tensor, bits)
        tensors[name] = Stored(packed(integers) if bits == 4 else integers, "I8")
        tensors[name + "_scale"] = Stored(scale, "F16")
        meant[name] = integers.astype(np.float32) * scale.astype(np.float32)[:, None]
    write_bin(folder / "pytorch_model.bin", tensors)
    return meant


def test_the_upper_half_of_a_byte_is_the_even_column_and_both_have_signs() -> None:
    every_byte = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    values = unpack_nibbles(every_byte)
    for byte, high, low in zip(range(-128, 128), values[0, ::2], values[0, 1::2], strict=True):
        assert (byte & 0xFF) == ((int(high) & 15) << 4) | (int(low) & 15)
        assert -8 <= high <= 7
        assert -8 <= low <= 7


@pytest.mark.parametrize("bits", [4, 8])
def test_every_value_is_integer_times_scale(tmp_path: Path, bits: int) -> None:
    meant = packed_checkpoint(tmp_path / "packed", bits)
    report = convert_checkpoint(tmp_path / "packed", tmp_path / "m.gguf", QuantType.F32)
    assert f"weights: packed int{bits}, unpacked" in report.findings[-1]
    found = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    for layer in range(SMALL.layers):
        for source, target in (("mlp.dense_h_to_4h", "ffn_up"), ("self_attention.query_key_value", "attn_qkv"),
                               ("mlp.dense_4h_to_h", "ffn_down"), ("self_attention.dense", "attn_output")):  # fmt: skip
            matrix = meant[f"transformer.encoder.layers.{layer}.{source}.weight"]
            np.testing.assert_array_equal(found[f"blk.{layer}.{target}.weight"], matrix)


@pytest.mark.parametrize("bits", [4, 8])
def test_it_quantises_as_the_unpacked_checkpoint_does(tmp_path: Path, bits: int) -> None:
    meant = packed_checkpoint(tmp_path / "packed", bits)
    write_checkpoint(tmp_path / "plain", SMALL, meant)
    convert_checkpoint(tmp_path / "packed", tmp_path / "packed.gguf", QuantType.Q4_K_M)
    convert_checkpoint(tmp_path / "plain", tmp_path / "plain.gguf", QuantType.Q4_K_M)
    assert (tmp_path / "packed.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_from_the_middle_have_their_own_scales(tmp_path: Path, bits: int) -> None:
    meant = packed_checkpoint(tmp_path / "packed", bits)
    source = UnpackedTensors(open_checkpoint(tmp_path / "packed"), bits)
    name = "transformer.encoder.layers.1.mlp.dense_h_to_4h.weight"
    np.testing.assert_array_equal(source.read_rows(name, 100, 7), meant[name][100:107])


def test_a_scale_that_does_not_fit_is_named(tmp_path: Path) -> None:
    name = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"
    tensors = {name: Stored(np.zeros((4, 4), np.int8), "I8"), name + "_scale": Stored(np.zeros(3), "F16")}
    write_bin(tmp_path / "pytorch_model.bin", tensors)
    with pytest.raises(TensorShapeError, match=rf"{name}_scale has shape \[3\] .* requires \[4\]"):
        UnpackedTensors(open_checkpoint(tmp_path), 8).info(name)


def test_other_widths_are_refused(tmp_path: Path) -> None:
    packed_checkpoint(tmp_path / "packed", 8)
    (tmp_path / "packed" / "config.json").write_text(json.dumps(make_config(SMALL) | {"quantization_bit": 2}))
    with pytest.raises(UnsupportedModelError, match="quantization_bit is 2"):
        convert_checkpoint(tmp_path / "packed", tmp_path / "m.gguf", QuantType.F32)


def test_integers_without_quantization_bit_are_not_taken_for_weights(tmp_path: Path) -> None:
    packed_checkpoint(tmp_path / "packed", 8)
    (tmp_path / "packed" / "config.json").write_text(json.dumps(make_config(SMALL)))
    with pytest.raises(ConvertError, match=r"has type I8; .*quantization_bit"):
        convert_checkpoint(tmp_path / "packed", tmp_path / "m.gguf", QuantType.F32)
