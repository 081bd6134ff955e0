import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from glmserve.convert.atomic_file import complete_file
from glmserve.convert.errors import OutputError

Usage = namedtuple("Usage", "total used free")


def test_the_name_appears_only_when_the_file_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    with complete_file(out, 3) as file:
        file.write(b"abc")
        file.flush()
        assert not out.exists()
    assert out.read_bytes() == b"abc"
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def write_and_fail(out: Path, error: Exception) -> None:
    with complete_file(out, 3) as file:
        file.write(b"ab")
        raise error


def test_an_error_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        write_and_fail(out, RuntimeError())
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_what_a_killed_run_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(b"x" * 100)
    with complete_file(tmp_path / "m.gguf", 3) as file:
        file.write(b"abc")
    assert (tmp_path / "m.gguf").read_bytes() == b"abc"


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    with complete_file(out, 3) as file:
        with pytest.raises(OutputError, match="being written by another process"), complete_file(out, 3):
            pass
        file.write(b"abc")
    assert out.read_bytes() == b"abc"


def test_a_disk_that_is_too_small_is_said_before_work_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 8, 2))
    with pytest.raises(OutputError, match="needs 3 bytes and its disk has 2 left"):
        write_and_fail(tmp_path / "m.gguf", RuntimeError())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_is_said_as_such(tmp_path: Path, code: int) -> None:
    with pytest.raises(OutputError, match=r"was full before .* was complete"):
        write_and_fail(tmp_path / "m.gguf", OSError(code, "full"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"), complete_file(tmp_path, 1):
        pass
    with pytest.raises(OutputError, match="create it first"), complete_file(tmp_path / "no" / "m.gguf", 1):
        pass


def make_special(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.with_name("precious").write_bytes(b"precious")
        make = path.symlink_to if kind == "link" else path.hardlink_to
        make(path.with_name("precious"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """As root, -o /dev/full turned the device into a file."""
    out = tmp_path / "m.gguf"
    make_special(kind, out)
    before = out.lstat()
    with pytest.raises(OutputError, match=r"is a (named pipe|folder|symbolic link)"):
        write_and_fail(out, RuntimeError())
    assert (out.lstat().st_mode, out.lstat().st_ino) == (before.st_mode, before.st_ino)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "second name"])
def test_what_lies_under_the_temporary_name_is_not_followed(tmp_path: Path, kind: str) -> None:
    make_special(kind, tmp_path / "m.gguf.part")
    with pytest.raises(OutputError, match=r"m.gguf.part is no regular file"):
        write_and_fail(tmp_path / "m.gguf", RuntimeError())
    if kind in ("link", "second name"):
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_what_takes_the_name_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"

    def write() -> None:
        with complete_file(out, 3) as file:
            os.mkfifo(out)
            file.write(b"abc")

    with pytest.raises(OutputError, match="named pipe"):
        write()
    assert out.is_fifo()
