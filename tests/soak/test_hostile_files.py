"""Model files that lie, by the thousand: SOAK_FILES says how many of each kind (20,000 unless set)."""

import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from glmserve.engine.errors import ModelLoadError
from tests.support.gguf_file import read_gguf
from tests.support.gguf_kinds import KINDS, good_file
from tests.support.gguf_lies import lie
from tests.support.native_loader import NativeLoader

FILES = int(os.environ.get("SOAK_FILES", "20000"))


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_that_the_check_lets_through_ends_the_process(kind: str, tiny_gguf: Path, tmp_path: Path) -> None:
    file = good_file(kind, tiny_gguf, tmp_path)
    good, loader, outcomes, ended = read_gguf(file.path), NativeLoader(), Counter[str](), []
    for seed in range(FILES):
        path = lie(good, Random(seed)).write(tmp_path / "lie.gguf")
        try:
            file.check(path)
        except ModelLoadError:
            outcomes["refused by the check"] += 1
            continue
        outcome = file.load(loader, path)
        outcomes[f"{outcome} by llama.cpp"] += 1
        if outcome not in ("loaded", "refused"):
            ended.append((seed, outcome))
    loader.close()
    print(f"\n{kind}: {FILES} files: {dict(outcomes)}")
    assert not ended
