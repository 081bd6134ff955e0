"""An importance matrix has the effect that it has in llama.cpp, to the byte."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as GGMLType
from gguf import GGUFReader
from numpy.typing import NDArray

from glmserve.convert.errors import ImatrixError
from glmserve.convert.pipeline import ConversionReport, convert_checkpoint
from glmserve.convert.quantize.imatrix import read_imatrix
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint
from tests.support.native import quantize

SHAPE = Shape(hidden=256, heads=2, groups=1, layers=9, ffn=544)
CALLS = 7

Entries = dict[str, NDArray[np.float32]]


def entries() -> Entries:
    """Mean squares by tensor; none for the embedding, and none for one layer's attention."""
    rng = np.random.Generator(np.random.PCG64(5))
    widths = {"attn_qkv": 256, "attn_output": 256, "ffn_up": 256, "ffn_down": 544}
    names = {f"blk.{i}.{name}.weight": width for i in range(9) for name, width in widths.items()}
    names["output.weight"] = 256
    del names["blk.3.attn_qkv.weight"]
    return {name: rng.gamma(0.5, size=width).astype(np.float32) for name, width in names.items()}


def write_legacy(path: Path, values: Entries) -> Path:
    data = struct.pack("<i", len(values))
    for name, mean in values.items():
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", CALLS, mean.size)
        data += (mean * np.float32(CALLS)).astype("<f4").tobytes()
    path.write_bytes(data + struct.pack("<ii", 11, 8) + b"text.txt")
    return path


def write_gguf(path: Path, values: Entries) -> Path:
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", 11)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, mean in values.items():
        writer.add_tensor(f"{name}.in_sum2", (mean * np.float32(CALLS))[None])
        writer.add_tensor(f"{name}.counts", np.array([[CALLS]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


WRITERS = {"imatrix.dat": write_legacy, "imatrix.gguf": write_gguf}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imatrix")
    write_checkpoint(folder, SHAPE, make_weights(SHAPE, 3))
    convert_checkpoint(folder, folder / "f32.gguf", QuantType.F32)
    return folder


def convert_with(checkpoint: Path, out: Path, quant: QuantType, name: str, values: Entries) -> ConversionReport:
    return convert_checkpoint(checkpoint, out, quant, imatrix=WRITERS[name](out.with_name(name), values))


QUICK = {(QuantType.Q4_K_M, "imatrix.dat"), (QuantType.Q4_0, "imatrix.gguf"), (QuantType.Q2_K, "imatrix.gguf")}
"""`make soak` has the rest."""
ALL = [
    pytest.param(quant, name, marks=() if (quant, name) in QUICK else pytest.mark.slow)
    for quant in (QuantType.Q4_0, QuantType.Q5_0, QuantType.Q4_K_M, QuantType.Q2_K, QuantType.Q5_1)
    for name in WRITERS
]


@pytest.mark.parametrize(("quant", "name"), ALL)
def test_types_and_bytes_are_those_of_llama_cpp(checkpoint: Path, quant: QuantType, name: str, tmp_path: Path) -> None:
    convert_with(checkpoint, tmp_path / "ours.gguf", quant, name, entries())
    same = {key: (value * np.float32(CALLS)) / np.float32(CALLS) for key, value in entries().items()}
    quantize(checkpoint / "f32.gguf", tmp_path / "theirs.gguf", quant.file_type, same)
    expected = {t.name: t for t in GGUFReader(tmp_path / "theirs.gguf").tensors}
    ours = GGUFReader(tmp_path / "ours.gguf").tensors
    assert {t.name: t.tensor_type for t in ours} == {n: t.tensor_type for n, t in expected.items()}
    assert [t.name for t in ours if t.data.tobytes() != expected[t.name].data.tobytes()] == []


def test_it_changes_the_weights_that_it_weighs_and_no_others(checkpoint: Path, tmp_path: Path) -> None:
    convert_with(checkpoint, tmp_path / "with.gguf", QuantType.Q4_K_M, "imatrix.gguf", entries())
    convert_checkpoint(checkpoint, tmp_path / "without.gguf", QuantType.Q4_K_M)
    plain = {t.name: t.data.tobytes() for t in GGUFReader(tmp_path / "without.gguf").tensors}
    tensors = GGUFReader(tmp_path / "with.gguf").tensors
    changed = {t.name for t in tensors if t.data.tobytes() != plain[t.name]}
    # Q8_0, which some of ffn_down falls back to, has no choice that weights could change.
    can_change = {t.name for t in tensors if t.name in entries() and t.tensor_type != GGMLType.Q8_0}
    assert changed == can_change


def test_the_report_says_which_tensors_it_says_nothing_of(checkpoint: Path, tmp_path: Path) -> None:
    report = convert_with(checkpoint, tmp_path / "m.gguf", QuantType.Q4_0, "imatrix.gguf", entries())
    assert report.findings[-1] == (
        "imatrix.gguf weighs the columns of 36 of 38 matrices; it has nothing for token_embd.weight, "
        "blk.3.attn_qkv.weight"
    )


@pytest.mark.parametrize("name", WRITERS)
def test_the_file_says_what_it_was_made_with(checkpoint: Path, name: str, tmp_path: Path) -> None:
    convert_with(checkpoint, tmp_path / "m.gguf", QuantType.Q4_0, name, entries())
    fields = GGUFReader(tmp_path / "m.gguf").fields
    said = {key.rpartition(".")[2]: fields[key].contents() for key in fields if key.startswith("quantize.imatrix.")}
    assert said == {"file": name, "dataset": "text.txt", "entries_count": 36, "chunks_count": 11}


def test_columns_that_were_never_reached_count_as_much_as_any(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "")
    writer.add_tensor("x.in_sum2", np.zeros((1, 4), np.float32))
    writer.add_tensor("x.counts", np.zeros((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_imatrix(tmp_path / "i.gguf").entries["x"].tolist() == [1, 1, 1, 1]


def test_a_matrix_of_another_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = {"blk.0.attn_qkv.weight": np.ones(128, np.float32)}
    with pytest.raises(ImatrixError, match=r"has 128 values for blk\.0\.attn_qkv\.weight, which has 256 columns"):
        convert_with(checkpoint, tmp_path / "m.gguf", QuantType.Q4_0, "imatrix.dat", other)
    assert not (tmp_path / "m.gguf").exists()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "i.dat", {"x": np.array([1, np.nan], np.float32)})
    with pytest.raises(ImatrixError, match="values for x that are not finite"):
        read_imatrix(path)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\1\0\0\0\xff\xff\xff\x7f", b"GGUF", b"GGUF" + b"\xff" * 40])
def test_a_file_that_is_no_importance_matrix_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(data)
    with pytest.raises(ImatrixError, match="it is no importance matrix") as caught:
        read_imatrix(tmp_path / "i")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [0, 8, 9])
def test_an_array_that_is_claimed_and_not_there_costs_nothing(kind: int, tmp_path: Path) -> None:
    """The gguf package's reader goes on behind the end of the file, for as many items as are claimed."""
    head = struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, kind, 2**40)
    (tmp_path / "i").write_bytes(head + bytes(64))
    with pytest.raises(ImatrixError, match="no importance matrix"):
        read_imatrix(tmp_path / "i")


def test_a_file_cut_off_anywhere_is_refused_or_lacks_its_last_words_only(tmp_path: Path) -> None:
    whole = write_legacy(tmp_path / "i.dat", {"x": np.ones(4, np.float32), "y": np.ones(8, np.float32)}).read_bytes()
    end_of_values = len(whole) - 16
    for length in range(end_of_values):
        (tmp_path / "i.dat").write_bytes(whole[:length])
        with pytest.raises(ImatrixError):
            read_imatrix(tmp_path / "i.dat")
    (tmp_path / "i.dat").write_bytes(whole[:end_of_values])
    assert read_imatrix(tmp_path / "i.dat").chunks == 0
