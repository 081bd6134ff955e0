"""Tensors of a checkpoint folder: which files they come from, and their values."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.convert.checkpoint.raw_tensor import to_float32
from glmserve.convert.checkpoint.reader import open_checkpoint, read_header
from glmserve.convert.errors import (
    CheckpointError,
    CorruptFileError,
    MissingFileError,
    MissingTensorError,
    TensorTypeError,
)
from tests.support.chatglm2_checkpoint import Weights, write_safetensors


@pytest.fixture
def tensors() -> Weights:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((6, 4)).astype(np.float16).astype(np.float32) for name in ("a", "b", "c")}


def sharded(folder: Path, tensors: Weights) -> Path:
    weight_map = {}
    for name, tensor in tensors.items():
        write_safetensors(folder / f"{name}.safetensors", {name: tensor})
        weight_map[name] = f"{name}.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_rows_are_what_was_saved(tmp_path: Path, tensors: Weights, dtype: str) -> None:
    write_safetensors(tmp_path / "model.safetensors", tensors, dtype)
    source = open_checkpoint(tmp_path)
    assert source.names() == ("a", "b", "c")
    np.testing.assert_array_equal(source.read_rows("b", 2, 3), tensors["b"][2:5])


def test_bf16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": np.array([[1.0, -2.5, 3.0e38]], np.float32)}, "BF16")
    rows = open_checkpoint(tmp_path).read_rows("a", 0, 1)
    np.testing.assert_allclose(rows, [[1.0, -2.5, 3.0e38]], rtol=2**-7)
    assert rows[0, 1] == -2.5


def test_a_vector_is_one_row(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"v": np.arange(3, dtype=np.float32)})
    assert open_checkpoint(tmp_path).read_rows("v", 0, 1).tolist() == [[0, 1, 2]]


def test_shards_are_found_through_their_index(tmp_path: Path, tensors: Weights) -> None:
    source = open_checkpoint(sharded(tmp_path, tensors))
    np.testing.assert_array_equal(source.read_rows("c", 0, 6), tensors["c"])
    assert source.info("c").path.name == "c.safetensors"


def test_a_missing_shard_is_named(tmp_path: Path, tensors: Weights) -> None:
    (sharded(tmp_path, tensors) / "b.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"b\.safetensors is missing; .*download it"):
        open_checkpoint(tmp_path)


def test_a_shard_that_was_cut_off_is_named_before_anything_is_converted(tmp_path: Path, tensors: Weights) -> None:
    shard = sharded(tmp_path, tensors) / "b.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match=r"b\.safetensors is damaged: it has \d+ bytes where .* asks for \d+"):
        open_checkpoint(tmp_path)


def test_a_shard_that_is_cut_off_meanwhile_is_an_error_too(tmp_path: Path, tensors: Weights) -> None:
    source = open_checkpoint(sharded(tmp_path, tensors))
    shard = tmp_path / "b.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match="ends at byte"):
        source.read_rows("b", 0, 6)


def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptFileError, match="not the name of a file in this folder"):
        open_checkpoint(tmp_path)


def test_a_folder_without_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"model\.safetensors is missing"):
        open_checkpoint(tmp_path)


def test_an_unknown_tensor_is_an_error_with_its_name(tmp_path: Path, tensors: Weights) -> None:
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(MissingTensorError, match="no tensor nope"):
        open_checkpoint(tmp_path).info("nope")


def test_other_element_types_are_refused_as_such(tmp_path: Path) -> None:
    head = json.dumps({"a": {"dtype": "U8", "shape": [2, 2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    with pytest.raises(TensorTypeError, match="type U8; supported are F32, F16, BF16"):
        open_checkpoint(tmp_path).read_rows("a", 0, 2)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "F32"},
        7,
    ],
)
def test_a_header_that_contradicts_itself_is_an_error(tmp_path: Path, entry: object) -> None:
    head = json.dumps({"a": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(CorruptFileError, match=r"model\.safetensors is damaged: its header"):
        read_header(path)


@given(data=st.binary(max_size=200), as_header=st.booleans())
def test_no_file_makes_the_reader_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, as_header: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data if as_header else data)
    with contextlib.suppress(CheckpointError):
        read_header(path)


@pytest.mark.parametrize("chosen", ["all", "finite"])
def test_every_float16_becomes_the_float32_of_the_same_value(chosen: str) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    if chosen == "finite":
        halves = halves[np.isfinite(halves.view(np.float16))]
        assert len(halves) == 63488
    widened = to_float32(halves.view(np.uint8), "F16")
    np.testing.assert_array_equal(widened, halves.view(np.float16).astype(np.float32))
    assert np.array_equal(np.signbit(widened), halves >> 15)


def test_no_values_are_no_values() -> None:
    assert to_float32(np.empty(0, np.uint8), "F16").shape == (0,)


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    values = np.array([1.0, -2.5, np.inf, 2**-133], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(to_float32(upper.view(np.uint8), "BF16"), values)
