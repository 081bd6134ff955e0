"""The reference written in numpy is itself held to transformers; then llama.cpp is held to it."""

import json
from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.reference.numpy_chatglm2 import Rotation, forward
from tests.reference.records import CASES, Case, positions_of, read_record
from tests.support.chatglm2_checkpoint import SMALL, make_config, make_weights, write_checkpoint
from tests.support.native import logits_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("length", [10, 800])
def test_it_computes_what_transformers_computes(case: Case, length: int) -> None:
    record = read_record(case.name)
    logits = forward(make_weights(case.shape, case.seed), case.shape, record.prompts[length])
    difference = np.abs(logits[positions_of(length)] - record.logits[length]).max()
    print(case.name, length, difference)
    assert difference <= 5e-5


@pytest.mark.parametrize(
    ("changes", "base", "epsilon"),
    [
        ({"_name_or_path": "THUDM/chatglm3-6b-32k", "rope_ratio": 50}, 500000.0, 1e-5),
        # As GLM-4 has them: its epsilon, and a base multiplied by 500.
        ({"_name_or_path": "x/chatglm3", "rope_ratio": 500, "layernorm_epsilon": 1.5625e-07}, 5000000.0, 1.5625e-07),
    ],
    ids=["chatglm3-32k", "as glm-4"],
)
def test_a_multiplied_base_and_another_epsilon_are_computed(
    changes: dict[str, object], base: float, epsilon: float, tmp_path: Path
) -> None:
    weights = make_weights(SMALL, 6)
    # So small that an epsilon of 1e-5 in place of 1.6e-7 shows.
    weights["transformer.embedding.word_embeddings.weight"] *= np.float32(1e-3)
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    (folder / "config.json").write_text(json.dumps(make_config(SMALL) | changes))
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    prompt = [int(i) for i in np.random.default_rng(3).integers(3, SMALL.vocab, 300)]
    computed = logits_of(tmp_path / "m.gguf", [prompt])[0]
    expected = forward(weights, SMALL, prompt, rotation=Rotation(base=base), epsilon=epsilon)
    assert np.abs(computed - expected).max() <= 1e-3
    plain = forward(weights, SMALL, prompt, epsilon=epsilon)
    other = forward(weights, SMALL, prompt, rotation=Rotation(base=base), epsilon=1e-5 if epsilon < 1e-6 else 1e-7)
    assert np.abs(plain - expected).max() > 0.1
    assert np.abs(other - expected).max() > 0.01
