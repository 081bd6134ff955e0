"""Real configurations and tokenizers, which lie outside the project because of their licences."""

import os
from pathlib import Path

import pytest

VARIABLE = "GLMSERVE_CHECKPOINTS"
_DEFAULT = Path(__file__).parents[3] / "shared" / "reference" / "checkpoints"


def real_checkpoint(name: str, file: str) -> Path:
    """Return the folder of a real checkpoint that holds ``file``, or skip the test."""
    root = Path(os.environ.get(VARIABLE, _DEFAULT))
    if not (root / name / file).exists():
        pytest.skip(f"no {name}/{file} in {root}; set {VARIABLE} to a folder that has it")
    return root / name
