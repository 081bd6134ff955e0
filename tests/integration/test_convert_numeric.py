"""The converted model computes what an independent implementation computes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.reference.records import (
    CASES,
    LENGTHS,
    Case,
    checkpoint_digest,
    positions_of,
    read_record,
    record_path,
)
from tests.support.chatglm2_checkpoint import SMALL, Weights, fingerprint, make_weights, write_checkpoint
from tests.support.native import logits_of

TOLERANCE = 1e-3
"""On logits of deviation 3; seen: 1.6e-5."""

TINY = Path(__file__).parents[2] / "models" / "tiny"

Change = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]


def largest_difference(gguf: Path, record_name: str) -> dict[int, float]:
    """Largest difference of logits, by length of the prompt."""
    record = read_record(record_name)
    computed = logits_of(gguf, [record.prompts[n] for n in LENGTHS])
    return {
        n: float(np.abs(logits[positions_of(n)] - record.logits[n]).max())
        for n, logits in zip(LENGTHS, computed, strict=True)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_logits_equal_those_of_transformers(
    case: Case, dtype: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    weights = make_weights(case.shape, case.seed)
    assert fingerprint(weights) == read_record(case.name).weights, "numpy made other weights: record them again"
    folder = write_checkpoint(tmp_path / "hf", case.shape, weights, dtype=dtype, shards=3)
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    differences = largest_difference(tmp_path / "m.gguf", case.name)
    print(case.name, dtype, differences)
    record_property("largest difference of logits", str(differences))
    assert max(differences.values()) <= TOLERANCE


def test_logits_of_the_embedded_model_equal_those_of_transformers(tmp_path: Path) -> None:
    if not record_path("tiny").exists() or not (TINY / "config.json").exists():
        pytest.skip("no record of models/tiny: python -m tests.reference.record_logits models/tiny")
    assert checkpoint_digest(TINY) == read_record("tiny").weights, (
        "models/tiny has changed: python -m tests.reference.record_logits models/tiny"
    )
    convert_checkpoint(TINY, tmp_path / "m.gguf", QuantType.F32)
    differences = largest_difference(tmp_path / "m.gguf", "tiny")
    print("tiny", differences)
    assert max(differences.values()) <= TOLERANCE


def swap_key_groups(name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    if "query_key_value" not in name:
        return tensor
    keys = slice(SMALL.heads * 128, (SMALL.heads + SMALL.groups) * 128)
    return np.concatenate([tensor[: keys.start], np.roll(tensor[keys], 128, axis=0), tensor[keys.stop :]])


def swap_gate_and_up(name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(tensor, SMALL.ffn, axis=0) if name.endswith("mlp.dense_h_to_4h.weight") else tensor


def pair_halves_instead_of_neighbours(name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    if "query_key_value" not in name:
        return tensor
    heads = tensor.copy().reshape(SMALL.heads + 2 * SMALL.groups, 128, -1)
    rotated = heads[: SMALL.heads + SMALL.groups, :64]
    heads[: SMALL.heads + SMALL.groups, :64] = np.concatenate([rotated[:, 0::2], rotated[:, 1::2]], axis=1)
    paired: NDArray[np.float32] = heads.reshape(tensor.shape)
    return paired


@pytest.mark.parametrize("change", [swap_key_groups, swap_gate_and_up, pair_halves_instead_of_neighbours])
def test_a_wrong_mapping_would_be_seen(change: Change, tmp_path: Path) -> None:
    weights: Weights = {name: change(name, tensor) for name, tensor in make_weights(SMALL, CASES[0].seed).items()}
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    assert min(largest_difference(tmp_path / "m.gguf", CASES[0].name).values()) > 1000 * TOLERANCE
