"""Reads in machine code what is stored of a tile configuration before ``ldtilecfg`` loads it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PALETTE, _COLUMN_BYTES, _ROWS = {0}, set(range(16, 32)), set(range(48, 56))
NEEDED = frozenset(_PALETTE | _COLUMN_BYTES | _ROWS)
"""Bytes that are not 0 in the configuration of eight tiles, or belong to a number that is not."""

_INSTRUCTION = re.compile(r"\s*[0-9a-f]+:\s+(\S+)\s*(.*?)\s*(?:#.*)?$")
_MEMORY = re.compile(r"(-?0x[0-9a-f]+)?\((%\w+)\)$")
_IMMEDIATE_SIZES = {"movb": 1, "movw": 2, "movl": 4, "movq": 8}
_VECTOR_SIZES = {"x": 16, "y": 32, "z": 64}
_PARTS = {"vmovd": 4, "movd": 4, "vmovq": 8, "movq": 8, "vmovlps": 8, "vmovhps": 8, "movlps": 8, "movhps": 8}


def disassemble(file: Path) -> str:
    """Return what ``objdump`` makes of a library or object. Assemblers come with it, so a compiler has it too."""
    objdump = shutil.which("objdump")
    assert objdump is not None, "this test needs objdump, of the package binutils"
    command = [objdump, "--disassemble", "--no-show-raw-insn", str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def missing_stores(listing: str) -> list[set[int]]:
    """Return for each ``ldtilecfg`` which of the needed bytes are nowhere stored before it in its function."""
    found = []
    for function in re.split(r"\n\n", listing):
        matches = map(_INSTRUCTION.match, function.splitlines())
        lines = [(match[1], match[2]) for match in matches if match]
        for index, (name, operand) in enumerate(lines):
            if name == "ldtilecfg":
                found.append(set(NEEDED - _stored(lines[:index], operand)))
    return found


def _stored(before: list[tuple[str, str]], operand: str) -> set[int]:
    """Return the bytes whose last store is of something other than zeros."""
    place = _MEMORY.match(operand)
    assert place is not None, operand
    start, base = int(place[1] or "0", 16), place[2]
    zeros: set[str] = set()
    stored: set[int] = set()
    for name, operands in before:
        source, _, target = operands.rpartition(",")
        memory = _MEMORY.match(target)
        if memory is None:
            _note_zeros(name, source, target, zeros)
        elif memory[2] == base and "mov" in name:
            offset = int(memory[1] or "0", 16) - start
            written = set(range(max(offset, 0), min(offset + _size(name, source), 64)))
            is_zero = source == "$0x0" or _number(source) in zeros
            stored = stored - written if is_zero else stored | written
    return stored


def _note_zeros(name: str, source: str, target: str, zeros: set[str]) -> None:
    if "xor" in name and set(source.split(",")) == {target}:
        zeros.add(_number(target))
    else:
        zeros.discard(_number(target))


def _number(register: str) -> str:
    """Return what the parts of one vector register have in common."""
    return re.sub(r"^%[xyz]mm", "mm", register)


def _size(name: str, source: str) -> int:
    if name in _PARTS:
        return _PARTS[name]
    if source.startswith("$"):
        return _IMMEDIATE_SIZES[name]
    if vector := re.match(r"%([xyz])mm", source):
        return _VECTOR_SIZES[vector[1]]
    return _general_size(source.removeprefix("%"))


def _general_size(register: str) -> int:
    if re.fullmatch(r"r\d+[dwb]", register):
        return {"d": 4, "w": 2, "b": 1}[register[-1]]
    if register.startswith("r"):
        return 8
    if register.startswith("e"):
        return 4
    return 1 if register.endswith(("l", "h")) else 2


def distinct_files(files: Iterator[Path]) -> list[Path]:
    """Return one of each content: a wheel has every library three times."""
    return list({file.read_bytes(): file for file in files}.values())
