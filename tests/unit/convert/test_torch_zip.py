"""``.bin`` shards: what torch writes is read, and nothing in them is run."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.convert.checkpoint.reader import open_checkpoint, open_file, weights_findings
from glmserve.convert.errors import (
    CheckpointError,
    CorruptFileError,
    ForbiddenContentError,
    MissingFileError,
    UnsupportedFileError,
)
from tests.support.chatglm2_checkpoint import write_safetensors
from tests.support.torch_bin import Stored, pickled, write_bin, write_bin_shards

RECORDED = Path(__file__).parents[2] / "reference" / "torch-save.bin"
MATRIX = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_what_torch_itself_wrote_is_read() -> None:
    source = open_file(RECORDED)
    np.testing.assert_array_equal(source.read_rows("half", 1, 2), np.arange(4, 12).reshape(2, 4) / 4)
    np.testing.assert_allclose(source.read_rows("brain", 0, 1), [[1.0, -2.5, 3.0e38]], rtol=2**-7)
    np.testing.assert_array_equal(source.read_rows("first_rows", 0, 2), MATRIX[:2])
    np.testing.assert_array_equal(source.read_rows("middle_rows", 0, 2), MATRIX[1:3])
    np.testing.assert_array_equal(source.read_rows("packed", 0, 3), np.arange(-6, 6).reshape(3, 4))
    np.testing.assert_array_equal(source.read_rows("parameter", 0, 2), np.ones((2, 2)))
    assert [source.info(name).dtype for name in source.names()] == ["F16", "BF16", "F32", "F32", "I8", "F32"]


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    write_bin_shards(tmp_path, {name: Stored(MATRIX + i) for i, name in enumerate("abc")}, 2)
    source = open_checkpoint(tmp_path)
    np.testing.assert_array_equal(source.read_rows("c", 1, 2), MATRIX[1:3] + 2)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(MissingFileError, match=r"00002\.bin is missing; .*download it"):
        open_checkpoint(tmp_path)


def test_safetensors_are_preferred_and_that_is_said(tmp_path: Path) -> None:
    write_bin(tmp_path / "pytorch_model.bin", {"a": Stored(MATRIX)})
    assert open_checkpoint(tmp_path).names() == ("a",)
    assert weights_findings(tmp_path) == ()
    write_safetensors(tmp_path / "model.safetensors", {"b": MATRIX})
    assert open_checkpoint(tmp_path).names() == ("b",)
    assert "safetensors" in weights_findings(tmp_path)[0]


def test_a_tensor_that_starts_inside_its_storage_is_found(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(MATRIX, "F16", offset=5)})
    np.testing.assert_array_equal(open_file(path).read_rows("a", 0, 4), MATRIX)


def test_dimensions_of_one_may_have_any_stride(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(MATRIX[:1], strides=(99, 1))})
    np.testing.assert_array_equal(open_file(path).read_rows("a", 0, 1), MATRIX[:1])


class Evil:
    """Runs a command when a pickle of it is loaded as pickles usually are."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_shard_that_asks_for_a_function_is_refused_by_its_name_and_runs_nothing(
    tmp_path: Path, protocol: int
) -> None:
    marker = tmp_path / "ran"
    path = write_bin(tmp_path / "x.bin", {}, pickle=pickle.dumps({"a": Evil(marker)}, protocol))
    with pytest.raises(ForbiddenContentError, match=r"x\.bin asks for (\w+\.system|the pickle instruction \w+)"):
        open_file(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Evil(marker), protocol))
    assert marker.exists(), "the attack does nothing, so this test proves nothing"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02ctorch\nload\n.", r"torch\.load"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", r"torch\.storage\._load_from_bytes"),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", r"builtins\.eval"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "an object with a state"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call that rebuilds no tensor"),
        (b"\x80\x02X\x01\x00\x00\x001Q.", "a persistent object that is no storage"),
        (b"\x80\x02(X\x01\x00\x00\x001ios\nsystem\n.", "the pickle instruction INST"),
        (b"\x80\x02\x82\x01.", "the pickle instruction EXT1"),
    ],
)
def test_programs_that_are_no_tensors_are_refused(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(ForbiddenContentError, match=message) as caught:
        open_file(write_bin(tmp_path / "x.bin", {}, pickle=program))
    assert "\n" not in str(caught.value)


def test_programs_that_would_take_all_memory_or_time_end_at_once(tmp_path: Path) -> None:
    far = b"\x80\x02}r\xff\xff\xff\x7f."  # a place in the memo at two thousand millions
    deep = b"\x80\x02}(X\x01\x00\x00\x00a" + _call(b"K\x02" * 1_000_000) + b"u."  # a product of 2**1000000
    nested = b"\x80\x02}(" + b")" + b"q\x00h\x00\x86" * 200 + b"K\x01u."  # a key of 2**200 parts
    assert open_file(write_bin(tmp_path / "far.bin", {}, pickle=far)).names() == ()
    for name, program in (("nested", nested), ("deep", deep)):
        with pytest.raises(CorruptFileError, match="no pickle of tensors"):
            open_file(write_bin(tmp_path / f"{name}.bin", {}, pickle=program))


def _call(sizes: bytes) -> bytes:
    """A tensor of these sizes, of which each stands in the pickle as it is given."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(" + sizes + b"t(" + sizes + b"ttR"


def test_an_entry_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="its entry 'epoch' is no tensor"):
        open_file(write_bin(tmp_path / "x.bin", {}, pickle=pickle.dumps({"epoch": 3}, 2)))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Stored(MATRIX, strides=(1, 4)), "holds tensor a with gaps or transposed; .*contiguous"),
        (Stored(MATRIX, strides=(12, 1)), "with gaps or transposed"),
        (Stored(MATRIX, strides=(0, 1)), "with gaps or transposed"),
    ],
)
def test_a_tensor_with_gaps_is_refused_with_advice(tmp_path: Path, tensor: Stored, message: str) -> None:
    with pytest.raises(UnsupportedFileError, match=message):
        open_file(write_bin(tmp_path / "x.bin", {"a": tensor}))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (Stored(np.zeros((5, 6), np.float32)), "96 bytes for tensor a, which needs more"),
        (Stored(MATRIX, offset=1), "which needs more"),
        (Stored(MATRIX, offset=-1), "impossible shape or place"),
        (Stored(MATRIX, strides=(6, 6, 1)), "impossible shape or place"),
    ],
)
def test_a_tensor_outside_its_storage_is_damage(tmp_path: Path, described: Stored, message: str) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(MATRIX)}, pickle=pickled({"a": described}))
    with pytest.raises(CorruptFileError, match=message):
        open_file(path)


def test_values_that_are_not_there_are_damage(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "x.bin", {}, pickle=pickled({"a": Stored(MATRIX)}))
    with pytest.raises(CorruptFileError, match="lacks the values of tensor a"):
        open_file(path)


def test_a_directory_at_an_impossible_offset_is_damage(tmp_path: Path) -> None:
    content = bytearray(RECORDED.read_bytes())
    content[content.rfind(b"PK\6\6") + 55] = 0xFF  # the highest byte of "offset of start of central directory"
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CorruptFileError, match="cut off, or not a file of weights"):
        open_file(tmp_path / "x.bin")


@pytest.mark.parametrize("entry", ["data.pkl", "data/0"])
def test_an_entry_at_an_impossible_offset_is_damage(tmp_path: Path, entry: str) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(MATRIX)})
    with zipfile.ZipFile(path, "a") as archive:
        (info,) = (info for info in archive.infolist() if info.filename.endswith(entry))
        info.header_offset = (1 << 64) - 1
        archive.comment = b"the directory is written again"
    with pytest.raises(CorruptFileError, match="cut off, or not a file of weights"):
        open_file(path)


def test_a_compressed_shard_is_refused_unread(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(np.zeros(10_000_000))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsupportedFileError, match=r"holds archive/.* compressed"):
        open_file(path)


@pytest.mark.parametrize("part", [0, 10, 100, 0.5, 0.99])
def test_a_shard_that_was_cut_off_is_damage(tmp_path: Path, part: float) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(np.zeros(1000, np.float32))})
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data)) if part < 1 else int(part)])
    with pytest.raises(CorruptFileError, match="cut off, or not a file of weights"):
        open_file(path)


def test_entries_with_paths_are_only_names(tmp_path: Path) -> None:
    """An entry ``../../x`` is never written or opened anywhere, and the tensor's own entry is not among them."""
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../archive/data.pkl", pickled({"a": Stored(MATRIX)}))
        archive.writestr("../../archive/data/0", MATRIX.tobytes())
    np.testing.assert_array_equal(open_file(path).read_rows("a", 0, 4), MATRIX)
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_two_pickles_are_one_too_many(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "x.bin", {"a": Stored(MATRIX)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(CorruptFileError, match=r"2 entries data\.pkl"):
        open_file(path)


def test_the_format_before_torch_1_6_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    with pytest.raises(UnsupportedFileError, match=r"torch before 1\.6; .*save it again"):
        open_file(tmp_path / "x.bin")


def test_a_pointer_of_git_lfs_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(UnsupportedFileError, match="git lfs pull"):
        open_file(tmp_path / "x.bin")


def test_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({}))
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(UnsupportedFileError, match="big-endian"):
        open_file(path)


@settings(max_examples=300)
@given(data=st.data())
def test_no_damage_makes_the_reader_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(RECORDED.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        open_file(path)


@settings(max_examples=300)
@given(program=st.binary(max_size=60))
def test_no_pickle_makes_the_reader_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, program: bytes
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    path = tmp_path_factory.getbasetemp() / "program.bin"
    path.write_bytes(buffer.getvalue())
    with contextlib.suppress(CheckpointError):
        open_file(path)
