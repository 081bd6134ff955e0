"""A converted file is what llama.cpp's own quantisation makes of the float32 file, to the byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as GGMLType
from gguf import GGUFReader

from glmserve.convert.errors import TensorValueError
from glmserve.convert.pipeline import Progress, convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.byte_pairs import byte_pairs, tokenizer_text
from tests.support.chatglm2_checkpoint import SMALL, Shape, make_weights, write_checkpoint
from tests.support.glm_checkpoint import GlmShape, make_glm_weights, write_glm_checkpoint
from tests.support.native import logits_of, quantize

NINE_LAYERS = Shape(hidden=256, heads=2, groups=1, layers=9, ffn=544)
"""Rows of ffn_down (544) are no multiple of 256, as in the real model (13696)."""
TWENTY_EIGHT_LAYERS = Shape(hidden=256, heads=4, groups=1, kv_channels=64, layers=28, ffn=256)
"""As many layers as the real model, and heads that share a group by more than two."""
ODD_ROWS = Shape(hidden=256, heads=2, groups=1, layers=1, ffn=100)
"""Rows of ffn_down are no multiple of 32 either."""


GLM_APART = GlmShape(hidden=256, heads=2, groups=1, layers=9, ffn=544, bias=True)
"""Query, key and value apart."""
GLM_TIED = replace(GLM_APART, model_type="glm", tied=True)
"""No output matrix of its own."""


_QUICK = (QuantType.Q4_K_M, QuantType.Q4_0, QuantType.Q8_0, QuantType.Q2_K)
"""One of each way to choose the types of tensors; `make soak` has the rest."""


@pytest.fixture(
    scope="module",
    params=[NINE_LAYERS, TWENTY_EIGHT_LAYERS, ODD_ROWS, GLM_APART, GLM_TIED],
    ids=["9", "28", "odd", "glm4", "tied"],
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantize")
    shape: Shape | GlmShape = request.param
    if isinstance(shape, GlmShape):
        write_glm_checkpoint(folder, shape, make_glm_weights(shape, 3), tokenizer_text(byte_pairs(440)))
    else:
        write_checkpoint(folder, shape, make_weights(shape, 3))
    convert_checkpoint(folder, folder / "f32.gguf", QuantType.F32)
    return folder


@pytest.mark.parametrize(
    "quant", [at if at in _QUICK else pytest.param(at, marks=pytest.mark.slow) for at in QuantType]
)
def test_types_and_bytes_are_those_of_llama_cpp(checkpoint: Path, quant: QuantType, tmp_path: Path) -> None:
    convert_checkpoint(checkpoint, tmp_path / "ours.gguf", quant)
    quantize(checkpoint / "f32.gguf", tmp_path / "theirs.gguf", quant.file_type)
    ours, theirs = GGUFReader(tmp_path / "ours.gguf"), GGUFReader(tmp_path / "theirs.gguf")
    expected = {t.name: t for t in theirs.tensors}
    assert {t.name: t.tensor_type for t in ours.tensors} == {n: t.tensor_type for n, t in expected.items()}
    assert [t.name for t in ours.tensors if t.data.tobytes() != expected[t.name].data.tobytes()] == []
    assert contents(ours) == contents(theirs)


def contents(reader: GGUFReader) -> dict[str, object]:
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def test_fallbacks_are_reported_with_their_reason(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", NINE_LAYERS, make_weights(NINE_LAYERS, 3))
    report = convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.Q4_K_M)
    assert {(f.wanted, f.used) for f in report.fallbacks} == {
        (GGMLType.Q4_K, GGMLType.Q5_0),
        (GGMLType.Q6_K, GGMLType.Q8_0),
    }
    assert {f.tensor for f in report.fallbacks} == {f"blk.{i}.ffn_down.weight" for i in range(9)}
    assert report.fallbacks[0].reason == "rows of 544 are no multiple of 256"
    assert report.tensors == 3 + 7 * 9
    assert report.bytes_out == (tmp_path / "m.gguf").stat().st_size


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_the_bytes_do_not_depend_on_shards_or_threads(dtype: str, tmp_path: Path) -> None:
    weights = make_weights(SMALL, 3)
    one = write_checkpoint(tmp_path / "one", SMALL, weights, dtype=dtype)
    three = write_checkpoint(tmp_path / "three", SMALL, weights, dtype=dtype, shards=3)
    convert_checkpoint(one, tmp_path / "one.gguf", QuantType.Q4_K_M, threads=1)
    convert_checkpoint(three, tmp_path / "three.gguf", QuantType.Q4_K_M, threads=3)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "three.gguf").read_bytes()


def test_float16_weights_pass_unchanged(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 3)
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights, dtype="F16")
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)
    tensors = {t.name: t for t in GGUFReader(tmp_path / "m.gguf").tensors}
    np.testing.assert_array_equal(
        tensors["blk.1.attn_qkv.weight"].data,
        weights["transformer.encoder.layers.1.self_attention.query_key_value.weight"].astype(np.float16),
    )


@pytest.mark.parametrize("quant", [QuantType.Q8_0, QuantType.Q4_K_M, QuantType.Q4_0])
def test_a_quantised_model_still_computes_about_the_same(quant: QuantType, tmp_path: Path) -> None:
    shape = replace(SMALL, ffn=256)
    folder = write_checkpoint(tmp_path / "hf", shape, make_weights(shape, 3))
    prompt = [5, 99, 300, 17, 42]
    logits = []
    for kind in (QuantType.F32, quant):
        convert_checkpoint(folder, tmp_path / "m.gguf", kind)
        logits.append(logits_of(tmp_path / "m.gguf", [prompt])[0][-1])
    assert np.corrcoef(*logits)[0, 1] > (0.999 if quant is QuantType.Q8_0 else 0.95)


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", SMALL, make_weights(SMALL, 3))
    seen: list[Progress] = []
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.Q4_0, seen.append)
    done = [step.done_bytes for step in seen]
    assert done == sorted(done)
    assert {step.total_bytes for step in seen} == {seen[0].total_bytes}
    assert (seen[0].tensor, seen[-1].tensor) == ("token_embd.weight", "output.weight")
    assert done[-1] == seen[-1].total_bytes


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    weights = make_weights(SMALL, 3)
    name = "transformer.encoder.layers.1.mlp.dense_4h_to_h.weight"
    weights[name][3, 5] = value
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    with pytest.raises(TensorValueError, match=name):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.Q4_0)
    assert not list(tmp_path.glob("m.gguf*"))
