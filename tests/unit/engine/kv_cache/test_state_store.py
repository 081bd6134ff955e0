"""States on the disk: what was saved comes back, and nothing else ever does."""

import os
import resource
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.files import file_fingerprint, remove_oldest
from glmserve.engine.kv_cache.state_store import (
    HEADER_BYTES,
    BadState,
    Fingerprint,
    StateStore,
    check_content,
    fingerprint,
    pack_header,
    state_length,
)

KEY = fingerprint("a model", (1, 2, 3))
OTHER = fingerprint("a model", (1, 2, 4))
STATE = bytearray(range(256)) * 40


def _read(content: bytes, key: Fingerprint) -> bytearray:
    """As a folder does it."""
    header, rest = content[:HEADER_BYTES], bytearray(content[HEADER_BYTES:])
    state_length(header, key, len(content))
    check_content(header, rest)
    return rest


@given(st.binary(max_size=200), st.text(), st.lists(st.integers(0, 65023), max_size=5))
def test_what_was_packed_is_read_with_its_fingerprint_alone(content: bytes, identity: str, tokens: list[int]) -> None:
    key, state = fingerprint(identity, tokens), bytearray(content)
    packed = pack_header(key, state) + state
    assert _read(packed, key) == state
    for other in (fingerprint(identity + "x", tokens), fingerprint(identity, [*tokens, 0])):
        with pytest.raises(BadState, match="belongs to another"):
            _read(packed, other)


@given(at=st.integers(0), flip=st.integers(1, 255))
def test_any_changed_byte_shows(at: int, flip: int) -> None:
    packed = bytearray(pack_header(KEY, STATE) + STATE)
    packed[at % len(packed)] ^= flip
    with pytest.raises(BadState):
        _read(bytes(packed), KEY)


@given(st.integers(0, HEADER_BYTES + len(STATE) - 1), st.binary(min_size=1, max_size=20))
def test_what_was_cut_off_or_added_shows(length: int, more: bytes) -> None:
    packed = pack_header(KEY, STATE) + STATE
    for content in (packed[:length], packed + more):
        with pytest.raises(BadState):
            _read(content, KEY)


@given(st.binary(max_size=400))
def test_a_foreign_file_is_refused(content: bytes) -> None:
    with pytest.raises(BadState):
        _read(content, KEY)


@given(st.text(), st.text(), st.lists(st.integers(0)), st.lists(st.integers(0)))
@settings(max_examples=50)
def test_only_equal_things_have_equal_fingerprints(a: str, b: str, x: list[int], y: list[int]) -> None:
    assert (fingerprint(a, x) == fingerprint(b, y)) == ((a, x) == (b, y))


@pytest.fixture
def folder(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "prefixes", 10**6)


def _file(tmp_path: Path, key: Fingerprint = KEY) -> Path:
    return tmp_path / "prefixes" / key.file_name


def test_a_state_is_kept_for_its_owner_alone(folder: StateStore, tmp_path: Path) -> None:
    assert folder.load(KEY) is None
    folder.write(KEY, STATE)
    assert folder.load(KEY) == STATE
    assert stat.S_IMODE(_file(tmp_path).stat().st_mode) == 0o600
    assert [file.name for file in _file(tmp_path).parent.iterdir()] == [KEY.file_name]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[: HEADER_BYTES - 1]),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"),
        lambda file: file.write_bytes(os.urandom(5000)),
        lambda file: file.write_bytes(pack_header(OTHER, STATE) + STATE),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["empty", "cut", "cut header", "longer", "changed", "foreign", "another's", "folder"],
)
def test_a_spoiled_file_is_not_used(folder: StateStore, tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder.write(KEY, STATE)
    spoil(_file(tmp_path))
    assert folder.load(KEY) is None


def test_a_spoiled_file_is_replaced(folder: StateStore, tmp_path: Path) -> None:
    _file(tmp_path).parent.mkdir()
    _file(tmp_path).write_bytes(b"nonsense")
    folder.write(KEY, STATE)
    assert folder.load(KEY) == STATE


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    folder = StateStore(tmp_path / "prefixes", 3 * (HEADER_BYTES + len(STATE)))
    keys = [fingerprint("a model", (number,)) for number in range(4)]
    for age, key in enumerate(keys[:3]):
        folder.write(key, STATE)
        os.utime(_file(tmp_path, key), (1000 + age, 1000 + age))
    folder.load(keys[0])
    folder.write(keys[3], STATE)
    assert [folder.load(key) is not None for key in keys] == [True, False, True, True]


def test_a_state_that_is_too_large_is_not_kept_and_drives_nothing_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateStore(tmp_path / "prefixes", HEADER_BYTES + len(STATE))
    folder.write(KEY, STATE)
    folder.write(OTHER, STATE * 2)
    assert folder.load(KEY) == STATE
    assert folder.load(OTHER) is None
    assert "--pinned-disk-mb" in caplog.text


def test_other_files_in_the_folder_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_bytes(bytes(10 * len(STATE)))
    store = StateStore(tmp_path, HEADER_BYTES + len(STATE))
    store.write(KEY, STATE)
    store.write(OTHER, STATE)
    assert other.exists()
    assert store.load(KEY) is None
    assert store.load(OTHER) == STATE


def test_what_an_interrupted_write_left_is_cleared_after_a_while(folder: StateStore, tmp_path: Path) -> None:
    folder.write(KEY, STATE)
    abandoned, current = _file(tmp_path).with_name("a.part"), _file(tmp_path).with_name("b.part")
    for file in (abandoned, current):
        file.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    folder.write(OTHER, STATE)
    assert (abandoned.exists(), current.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "prefixes").write_text("a file where the folder should be")
    folder = StateStore(tmp_path / "prefixes", 10**6)
    folder.write(KEY, STATE)
    assert folder.load(KEY) is None
    assert "could not be saved" in caplog.text


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(
    folder: StateStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit on the size of files fails a write as a full disk does: in the middle of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        folder.write(KEY, STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "could not be saved" in caplog.text
    assert list(_file(tmp_path).parent.iterdir()) == []


def test_a_file_is_told_from_a_changed_one(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    content = bytearray(os.urandom(5 * 2**20))
    file.write_bytes(content)
    status = file.stat()
    seen = {file_fingerprint(file)}
    assert file_fingerprint(file) in seen
    for at in (0, 2**20, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 1
        file.write_bytes(changed)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        seen.add(file_fingerprint(file))
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    seen.add(file_fingerprint(file))
    file.write_bytes(content[:-1])
    seen.add(file_fingerprint(file))
    assert len(seen) == 6


def test_what_cannot_be_removed_counts_on_and_others_go(tmp_path: Path) -> None:
    stuck, other = tmp_path / "stuck.state", tmp_path / "other.state"
    stuck.mkdir()
    other.write_bytes(b"x" * 10)
    os.utime(stuck, (1, 1))
    remove_oldest(tmp_path, ".state", stuck.stat().st_size + 9, keep="")
    assert stuck.is_dir()
    assert not other.exists()


def test_a_saved_state_is_there_when_its_thread_has_ended_in_a_folder_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "when needed"
    folder = StateStore(path, 10**6)
    for key in (KEY, OTHER):
        folder.save(key, STATE)
        for thread in threading.enumerate():
            if thread.name == "state-writer":
                thread.join()
        assert folder.load(key) == STATE
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_why_a_state_is_not_used_is_logged(
    folder: StateStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write(KEY, STATE)
    _file(tmp_path).write_bytes(pack_header(KEY, STATE) + STATE[:-1])
    assert folder.load(KEY) is None
    assert f"has {HEADER_BYTES + len(STATE) - 1} bytes instead of {HEADER_BYTES + len(STATE)}" in caplog.text
