"""The look at a model file before llama.cpp sees it: right on good files, one clear error on any other."""

import struct
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.gguf.gguf_header import HeaderError, read_header


def test_it_finds_what_the_gguf_package_finds(tiny_gguf: Path) -> None:
    header, reader = read_header(tiny_gguf), GGUFReader(tiny_gguf)
    assert {t.name: (t.offset, t.nbytes) for t in header.tensors} == {
        t.name: (t.data_offset, t.n_bytes) for t in reader.tensors
    }
    for key, value in header.metadata.items():
        if not isinstance(value, tuple):
            assert value == reader.get_field(key).contents(), key
    tokens, pieces = reader.get_field("tokenizer.ggml.tokens").contents(), header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(pieces, tuple)
    assert [piece.decode() for piece in pieces] == tokens


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"GGUF", "is cut off"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is not a GGUF file of version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9223372036854775808 keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "is cut off"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 2**50), "items of an array"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "array of unknown type 9"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQQ1sQ1s", 3, 0, 1, 1, b"k", 9, 8, 2, 1, b"a", 2, b"b"), "is cut off"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQQ1s4s", 3, 0, 1, 1, b"k", 9, 8, 2, 1, b"a", b"cut"), "is cut off"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQQ", 3, 0, 1, 1, b"k", 9, 8, 1, 2**64 - 1), "is cut off"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 2**31), "2147483648 dimensions"),
        (b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 77, 0), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"\xff", 4), "not UTF-8"),
    ],
)
def test_each_lie_of_a_header_is_one_clear_error(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(HeaderError, match=says):
        read_header(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_changed_in_a_good_header_end_in_facts_or_in_one_clear_error(
    tiny_gguf: Path, tmp_path: Path, data: st.DataObject
) -> None:
    good = tiny_gguf.read_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 3000) | st.integers(0, 70_000))
        change = data.draw(st.binary(min_size=1, max_size=8))
        bad[at : at + len(change)] = change
    if data.draw(st.booleans()):
        del bad[data.draw(st.integers(0, 80_000)) :]
    path = tmp_path / "changed.gguf"
    path.write_bytes(bad)
    refusal = _refusal(path)
    assert not refusal or refusal.startswith("changed.gguf: ")


def _refusal(path: Path) -> str:
    """Why the file is refused, or nothing; any other exception is the test's failure."""
    try:
        check_gguf(path)
    except ModelLoadError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html>\n<html><title>404</title>", "a web page .HTML.*download the file again"),
        (b"\xef\xbb\xbf <HTML lang=en>" + b"x" * 5000, "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n", "pointer of Git LFS.*git lfs pull"),
        (b"Entry not found", "is text, not a model; it begins with 'Entry not found'"),
        (b"GG", "is text"),
        (b'{"error": "Repository not found"}', "is JSON, not a model"),
        ("模型".encode() * 1365 + b"\xe6\xa8", "is text"),
        (b"PK\x03\x04" + bytes(99), "zip archive, as torch.save.*folder of the checkpoint"),
        ((64).to_bytes(8, "little") + b'{"__metadata__":{}}' + bytes(99), "safetensors file.*folder of the checkpoint"),
        (b"lmgg" + bytes(99), "came before GGUF.*convert the checkpoint again"),
        (b"\x7fELF" + bytes(99), "is not a GGUF file of version 2 or 3"),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=says):
        check_gguf(path)
