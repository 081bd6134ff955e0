"""Memory is given back where that changes nothing that can be read."""

import ctypes
import mmap
from pathlib import Path

import pytest

from glmserve.engine.llama.model_loading import (
    CHUNK_BYTES,
    Mapping,
    new_spans,
    read_mappings,
    release_file,
    zeros_released,
)

SIZE = 32 * CHUNK_BYTES
MAPS = """\
7f00-8000 rw-p 00000000 00:00 0
8000-9000 r--s 00001000 fe:00 42      /models/a file.gguf
"""


def test_mappings_are_read_with_names_that_have_spaces() -> None:
    assert read_mappings(MAPS) == (
        Mapping(0x7F00, 0x8000, "rw-p", ""),
        Mapping(0x8000, 0x9000, "r--s", "/models/a file.gguf"),
    )


def test_a_mapping_that_has_grown_is_new_only_where_it_has_grown() -> None:
    before = (Mapping(100, 200, "rw-p", ""), Mapping(300, 400, "rw-p", ""))
    after = (Mapping(50, 250, "rw-p", ""), Mapping(300, 400, "rw-p", ""), Mapping(500, 600, "rw-p", ""))
    assert sorted(new_spans(before, after)) == [(50, 100), (200, 250), (500, 600)]


def test_only_private_memory_without_a_file_is_new() -> None:
    assert (
        new_spans((), (Mapping(0, 9, "rw-s", ""), Mapping(10, 19, "rw-p", "[heap]"), Mapping(20, 29, "r--p", ""))) == []
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_zeros_are_given_back_and_everything_else_stays() -> None:
    with zeros_released():
        memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(bytes(SIZE))
        memory[SIZE // 2] = 7
        full = resident_bytes()
    assert full - resident_bytes() > SIZE - 8 * CHUNK_BYTES
    assert memory[SIZE // 2] == 7
    assert memory[:9] == bytes(9)
    memory[0] = 1
    assert memory[0] == 1


def advised_huge(address: int) -> bool:
    """Whether the kernel was asked for huge pages there: the flag "hg" of /proc/self/smaps."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if "-" in word:
            start, end = (int(part, 16) for part in word.split("-"))
            found = start <= address < end
        elif found and word == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError("no such mapping")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has no huge pages")
@pytest.mark.parametrize("huge_pages", [False, True])
def test_memory_comes_back_in_huge_pages_only_where_they_are_asked_for(huge_pages: bool) -> None:
    with zeros_released(huge_pages=huge_pages):
        memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(bytes(SIZE))
        memory[SIZE // 2] = 7
    assert advised_huge(ctypes.addressof(ctypes.c_char.from_buffer(memory)) + SIZE // 2) == huge_pages
    assert memory[SIZE // 2] == 7


def test_a_mapped_file_leaves_the_resident_set_and_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a model.gguf"
    path.write_bytes(b"x" * SIZE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:].count(b"x") == SIZE
        full = resident_bytes()
        release_file(path)
        assert full - resident_bytes() > SIZE // 2
        assert mapped[SIZE - 1] == ord("x")
