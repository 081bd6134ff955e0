"""Checkpoints made to run code, to fill memory, or to have a file read that is none of theirs."""

import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.errors import ConvertError, CorruptFileError, ForbiddenContentError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import SMALL, make_weights, write_checkpoint
from tests.support.torch_bin import Stored, write_bin

_SIZES = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "kv_channels",
          "multi_query_group_num", "padded_vocab_size", "seq_length")  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("good"), SMALL, make_weights(SMALL, 1))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "checkpoint"))


@contextmanager
def bounded_memory(megabytes: int = 1500) -> Iterator[None]:
    """Fail with a MemoryError where more is asked for than there is now and so much."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 10**6, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def refusal(folder: Path) -> str:
    with bounded_memory(), pytest.raises(ConvertError) as refused:
        convert_checkpoint(folder, folder / "out.gguf", QuantType.F16)
    assert not (folder / "out.gguf").exists()
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


class _Writes:
    """Pickled, it is the order to write a file."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._flag}",)


def _only_bin(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_would_write_a_file_writes_none(folder: Path, tmp_path: Path, protocol: int) -> None:
    flag = tmp_path / "flag"
    weights = {"transformer.embedding.word_embeddings.weight": _Writes(flag)}
    write_bin(_only_bin(folder), {}, pickle=pickle.dumps(weights, protocol))
    assert "system" in refusal(folder) or protocol < 2
    assert not flag.exists()
    pickle.loads(pickle.dumps(_Writes(flag), protocol))
    assert flag.exists(), "the pickle was harmless, and the test with it"


def test_a_bare_pickle_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    _only_bin(folder).write_bytes(pickle.dumps(_Writes(flag)))
    refusal(folder)
    assert not flag.exists()


def test_python_files_of_a_checkpoint_are_never_run(folder: Path, tmp_path: Path) -> None:
    """What `trust_remote_code` does elsewhere."""
    flag = tmp_path / "flag"
    code = f"open({str(flag)!r}, 'w').close()\n"
    for name in ("modeling_chatglm.py", "tokenization_chatglm.py", "configuration_chatglm.py", "sitecustomize.py"):
        (folder / name).write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"}
    (folder / "config.json").write_text(json.dumps(config))
    convert_checkpoint(folder, folder / "out.gguf", QuantType.F16)
    assert not flag.exists()


def test_a_zip_that_unpacks_to_more_than_there_is(folder: Path) -> None:
    """The entry that is read into memory is bounded; weights that are packed are refused unread."""
    with zipfile.ZipFile(_only_bin(folder), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(64 << 20))
    assert (folder / "pytorch_model.bin").stat().st_size < 10**6
    refusal(folder)


def test_a_zip_whose_directory_lies_about_a_size(folder: Path) -> None:
    path = write_bin(_only_bin(folder), {"a": Stored(np.ones((2, 2), np.float32))})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 20_000_000):
        data[at + 20 : at + 28] = struct.pack("<II", size, size)
        path.write_bytes(data)
        refusal(folder)


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "archive/../../x", "archive/data/../../../x"])
def test_a_zip_entry_with_a_path_writes_and_reads_nothing_there(folder: Path, tmp_path: Path, name: str) -> None:
    path = write_bin(_only_bin(folder), {"a": Stored(np.ones((2, 2), np.float32))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x" * 100)
    before = set(tmp_path.rglob("*"))
    refusal(folder)
    assert set(tmp_path.rglob("*")) == before


def _rewrite_header(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    "fields",
    [
        {"data_offsets": [-8, 0]}, {"data_offsets": [0, 2**63]}, {"data_offsets": [2**64, 2**64 + 8]},
        {"data_offsets": [8, 0]}, {"data_offsets": [0]}, {"data_offsets": [0, 1, 2]}, {"data_offsets": "0"},
        {"shape": [2**63]}, {"shape": [-1, -1]}, {"shape": [2**40, 2**40]}, {"shape": [0]}, {"shape": [1.5]},
        {"shape": [1] * 100_000}, {"dtype": "F4"}, {"dtype": "../F32"}, {"dtype": 7},
    ],
    ids=lambda fields: str(fields)[:40],
)  # fmt: skip
def test_a_header_that_points_anywhere_else(folder: Path, fields: dict[str, object]) -> None:
    _rewrite_header(folder / "model.safetensors", lambda header: next(iter(header.values())).update(fields))
    refusal(folder)


def test_tensors_that_share_their_bytes(folder: Path) -> None:
    """The format forbids it: a small file would be a model of any size."""

    def share(header: dict[str, dict[str, object]]) -> None:
        same = [entry for entry in header.values() if entry["shape"] == next(iter(header.values()))["shape"]]
        for entry in [*same, next(iter(header.values()))]:
            entry["data_offsets"] = same[0]["data_offsets"]
        first, second = list(header.values())[:2]
        second.update(dtype=first["dtype"], shape=first["shape"], data_offsets=first["data_offsets"])

    _rewrite_header(folder / "model.safetensors", share)
    assert "bytes of another one" in refusal(folder)


@pytest.mark.parametrize("key", _SIZES)
def test_a_configuration_without_measure_takes_neither_time_nor_memory(folder: Path, key: str) -> None:
    """A thousand million layers were planned one by one, and a vocabulary padded to as many pieces."""
    config = json.loads((folder / "config.json").read_text())
    for value in (2**31 - 1, 2**63, 10**30, -1, 0, "1" * 1000, [1], None, 1e300):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        assert key in refusal(folder)


@pytest.mark.parametrize(
    "text", ["[" * 10**6, '{"a":' * 10**5, "1" * 10**5, "\x00", '{"num_layers": 1e999}', '{"model_type": "../x"}']
)
def test_a_configuration_that_is_none(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.model", "model.safetensors", "tokenizer_config.json"])
def test_a_device_or_a_pipe_in_place_of_a_file(folder: Path, file: str) -> None:
    """/dev/zero never ends, and a pipe never begins."""
    path = folder / file
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    if file != "tokenizer_config.json":
        refusal(folder)
    path.unlink()
    os.mkfifo(path)
    if file != "tokenizer_config.json":
        refusal(folder)


def test_a_file_that_is_a_link_is_read_as_the_hubs_cache_needs_it_and_its_content_is_not_quoted(folder: Path) -> None:
    """The hub's client stores files as links; so what a link leads to is read, but nothing of it is told."""
    secret = folder.parent / "secret"
    secret.write_text("the-secret = 42")
    config = folder / "config.json"
    config.rename(folder.parent / "blob")
    config.symlink_to(folder.parent / "blob")
    convert_checkpoint(folder, folder / "linked.gguf", QuantType.F16)
    for name in ("config.json", "tokenizer.model", "model.safetensors"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        assert "the-secret" not in refusal(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)


def test_an_index_leads_to_no_other_folder(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    for shard in ("../model.safetensors", str(folder.parent / "model.safetensors"), "..", "", "a/../../x"):
        index = {"weight_map": {"a": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CorruptFileError):
            convert_checkpoint(folder, folder / "out.gguf", QuantType.F16)


def test_what_is_forbidden_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    write_bin(_only_bin(folder), {}, pickle=pickle.dumps({"a": _Writes(tmp_path / "flag")}, 2))
    with pytest.raises(ForbiddenContentError):
        convert_checkpoint(folder, folder / "out.gguf", QuantType.F16)
