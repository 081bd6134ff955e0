"""The folder of saved prompts: what was written comes back, to its user alone, and nothing else ever does."""

import os
import resource
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from glmserve.engine.kv_cache import prompt_files
from glmserve.engine.kv_cache.prompt_files import SUFFIX, Cancelled, PromptFiles, clear
from glmserve.engine.kv_cache.prompt_index import SavedPrompt, TokenHashes

STATE = bytearray(range(256)) * 4000
MODEL = "0 a model"


def _no_pause(_seconds: float) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prompts"


@pytest.fixture
def files(folder: Path) -> PromptFiles:
    return PromptFiles(folder, 10**8)


def _write(files: PromptFiles, first: int = 0, state: bytearray = STATE, identity: str = MODEL) -> SavedPrompt:
    saved = files.write(identity, TokenHashes(files.secret, identity, range(first, first + 100)), state, _no_pause)
    assert saved is not None
    return saved


def test_what_was_written_is_found_and_read_by_the_next_process(files: PromptFiles, folder: Path) -> None:
    saved = _write(files)
    again = PromptFiles(folder, 10**8)
    assert again.secret == files.secret
    assert again.names(MODEL) == {saved.name}
    assert again.names("1 another model") == frozenset()
    assert again.describe(saved.name) == saved
    found = again.read(saved)
    assert found is not None
    assert (found.state, len(found.marks)) == (STATE, 800)


def test_only_the_user_of_the_server_may_read_them_and_they_hold_no_token(files: PromptFiles, folder: Path) -> None:
    before = os.umask(0)
    try:
        _write(files)
        wide = folder.parent / "made-before"
        wide.mkdir(mode=0o777)
        _write(PromptFiles(wide, 10**8))
    finally:
        os.umask(before)
    for place in (folder, wide):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}
        assert sorted(file.suffix for file in place.iterdir()) == ["", SUFFIX]


_HEAD = 8 + 4 + 4 + 8 + 32 + 4 * 16 + 100 * 8 + 32


@pytest.mark.parametrize("at", [0, 8, 12, 20, 30, 60, 100, 150, _HEAD, _HEAD + 500_000, -1])
def test_any_changed_bit_shows_and_the_file_goes(files: PromptFiles, folder: Path, at: int) -> None:
    saved = _write(files)
    path = folder / saved.name
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    assert files.read(saved) is None
    assert not path.exists()


def test_a_damaged_header_is_noticed_when_the_files_are_listed_and_the_file_goes(
    files: PromptFiles, folder: Path
) -> None:
    saved = _write(files)
    path = folder / saved.name
    content = bytearray(path.read_bytes())
    content[30] ^= 4
    path.write_bytes(content)
    assert files.describe(saved.name) is None
    assert not path.exists()


def test_a_file_of_another_version_is_not_used(files: PromptFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(prompt_files, "_FORMAT", 2)
        saved = _write(files)
        assert files.describe(saved.name) == saved
    assert files.describe(saved.name) is None


def test_the_folder_is_made_where_needed(tmp_path: Path) -> None:
    files = PromptFiles(tmp_path / "made" / "when needed", 10**8)
    assert files.describe(_write(files).name) is not None


def _make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:20]),
        lambda file: file.write_bytes(file.read_bytes()[: _HEAD - 1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(os.urandom(5000)),
        _make_pipe,
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.rename(file.with_suffix(".x")), file.symlink_to(file.with_suffix(".x"))),
        lambda file: file.unlink(),
    ],
    ids=["empty", "cut", "cut header", "cut state", "longer", "foreign", "pipe", "folder", "link", "gone"],
)
def test_a_spoiled_file_is_not_used(files: PromptFiles, folder: Path, spoil: Callable[[Path], object]) -> None:
    saved = _write(files)
    spoil(folder / saved.name)
    assert files.describe(saved.name) is None or files.read(saved) is None


def test_a_whole_file_in_the_place_of_another_one_or_made_with_another_secret_is_not_used(
    files: PromptFiles, folder: Path, tmp_path: Path
) -> None:
    mine, other = _write(files), _write(files, 500)
    (folder / mine.name).write_bytes((folder / other.name).read_bytes())
    assert files.read(mine) is None
    stranger = PromptFiles(tmp_path / "stranger", 10**8)
    theirs = _write(stranger)
    (folder / theirs.name).write_bytes((tmp_path / "stranger" / theirs.name).read_bytes())
    assert files.describe(theirs.name) is None
    assert theirs.name not in files.names(MODEL)


def test_what_was_used_longest_ago_makes_room_for_all_models(folder: Path) -> None:
    size = len(STATE) + _HEAD
    files = PromptFiles(folder, 4 * size)
    kept = [_write(files, 1000 * number, identity=f"{number} a model") for number in range(4)]
    for age, saved in enumerate(kept):
        os.utime(folder / saved.name, (1000 + age, 1000 + age))
    assert files.read(kept[0]) is not None  # used again
    _write(files, 9000)
    assert [(folder / saved.name).exists() for saved in kept] == [True, False, True, True]


def test_a_state_that_would_drive_out_most_others_is_not_saved(folder: Path) -> None:
    files = PromptFiles(folder, 4 * len(STATE))
    assert files.write(MODEL, TokenHashes(files.secret, MODEL, range(100)), STATE, _no_pause) is None
    assert files.names(MODEL) == frozenset()


def test_a_full_disk_leaves_nothing_behind(files: PromptFiles, folder: Path) -> None:
    """A limit on the size of files fails a write as a full disk does: in the middle of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        with pytest.raises(OSError, match="too large"):
            _write(files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [file.name for file in folder.iterdir()] == ["secret"]


def test_a_write_that_is_cancelled_or_was_interrupted_leaves_nothing_for_long(files: PromptFiles, folder: Path) -> None:
    calls = 0

    def pause(_seconds: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:  # four pieces are hashed, one is written
            raise Cancelled

    with pytest.raises(Cancelled):
        files.write(MODEL, TokenHashes(files.secret, MODEL, range(100)), STATE, pause)
    assert [file.name for file in folder.iterdir()] == ["secret"]
    abandoned = folder / "x.part"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    _write(files)
    assert not abandoned.exists()


def test_processes_that_start_together_have_one_secret(folder: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(PromptFiles(folder, 10**6).secret)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [file.name for file in folder.iterdir()] == ["secret"]


def test_a_damaged_secret_is_replaced_and_what_it_sealed_is_lost(files: PromptFiles, folder: Path) -> None:
    saved = _write(files)
    (folder / "secret").write_bytes(b"short")
    again = PromptFiles(folder, 10**8)
    assert again.secret != files.secret
    assert again.describe(saved.name) is None


def test_clear_removes_prompts_and_nothing_else(files: PromptFiles, folder: Path) -> None:
    for first in (0, 500):
        _write(files, first)
    (folder / "x.part").write_bytes(b"half")
    assert clear(folder) == 2
    assert [file.name for file in folder.iterdir()] == ["secret"]
    assert clear(folder / "missing") == 0
