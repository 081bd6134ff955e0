"""What the recorded logits are of; shared by the script that records them and the tests that compare."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.chatglm2_checkpoint import SMALL, SMALL_32K, Shape
from tests.support.glm_checkpoint import GLM, GLM4, GLM4_YARN, GLM_EDGE, GlmShape

LENGTHS = (10, 100, 800)
"""Tokens of the prompts."""

GLM_LENGTHS = (10, 200, 2000)
"""The same of the checkpoints in transformers' own layout."""

POSITIONS = 12
"""How many positions of a prompt are recorded, the last one among them."""

PROMPT_SEED = 20230625

NAMED = {"tiny": "tiny"}
"""Folder name -> record name."""


@dataclass(frozen=True, slots=True)
class Case:
    """A random checkpoint with recorded logits."""

    name: str
    shape: Shape
    seed: int


CASES = (Case("small", SMALL, 1), Case("small-32k", SMALL_32K, 1))


@dataclass(frozen=True, slots=True)
class GlmCase:
    """A random checkpoint in transformers' own layout, with recorded logits."""

    name: str
    shape: GlmShape
    seed: int = 1


GLM_CASES = (
    GlmCase("glm", GLM),
    GlmCase("glm-edge", GLM_EDGE),
    GlmCase("glm4", GLM4),
    GlmCase("glm4-yarn", GLM4_YARN),
)


@dataclass(frozen=True, slots=True)
class Record:
    """What the reference computed."""

    weights: str
    """Fingerprint of the weights it was given."""
    prompts: dict[int, list[int]]
    """By length."""
    logits: dict[int, NDArray[np.float32]]
    """By length of the prompt; shape [positions, vocabulary], see positions_of."""


def record_path(name: str) -> Path:
    """Where a record lies."""
    return Path(__file__).parent / f"logits-{name}.npz"


def read_record(name: str) -> Record:
    """Read a record."""
    with np.load(record_path(name)) as file:
        return Record(
            weights=str(json.loads(str(file["note"]))["weights"]),
            prompts={n: file[f"prompt_{n}"].tolist() for n in _lengths(file)},
            logits={n: file[f"logits_{n}"] for n in _lengths(file)},
        )


def _lengths(file: Mapping[str, object]) -> list[int]:
    return [int(name.removeprefix("prompt_")) for name in file if name.startswith("prompt_")]


def make_prompt(vocab: int, length: int) -> list[int]:
    """Random ids; what they mean does not matter to the arithmetic."""
    rng = np.random.Generator(np.random.PCG64(PROMPT_SEED + length))
    return [int(i) for i in rng.integers(3, vocab, size=length)]


def positions_of(length: int) -> NDArray[np.int64]:
    """The recorded positions of a prompt, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, length - 1, POSITIONS).astype(np.int64))


def checkpoint_digest(folder: Path) -> str:
    """Hash of a folder's weight files."""
    digest = hashlib.sha256()
    for shard in sorted(folder.glob("*.safetensors")):
        digest.update(shard.read_bytes())
    return digest.hexdigest()
