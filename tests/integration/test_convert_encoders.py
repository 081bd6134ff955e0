"""Embedding models and rerankers from Hugging Face's folders: what llama.cpp computes with the converted files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glmserve.chat.tokenizer.encoder_tokenizer import load_encoder_tokenizer
from glmserve.convert.errors import ConvertError, MissingFileError, UnknownTensorError, UnsupportedModelError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.llama_embedder import LlamaEmbedder
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.model_loading import route_log
from tests.support.chatglm2_checkpoint import write_safetensors
from tests.support.encoders import Encoder, random_encoder, write_encoder

NOISE = 1e-5
"""Of a number in a vector of length 1."""

INPUTS = ((5, 6, 7), (9,), tuple(range(5, 47)), (11, 12) * 9)
BATCHES = {"each alone": 1, "together": 4, "in a large batch": 12}
"""Inputs of a batch: attention has other code for few tokens and for many."""


def converted(folder: Path, made: Encoder, quant: QuantType = QuantType.F32) -> Path:
    out = folder / "model.gguf"
    convert_checkpoint(write_encoder(folder / "checkpoint", made), out, quant)
    return out


def computed(
    path: Path, inputs: tuple[tuple[int, ...], ...], count: int = len(INPUTS)
) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return what is computed of ``inputs`` in batches of ``count``; a larger one has some of them again."""
    route_log()
    embedder = LlamaEmbedder(EngineConfig(path), check_gguf(path))
    embedder.self_test()
    batches = [inputs[at : at + count] for at in range(0, len(inputs), count)]
    found = [row for batch in batches for row in embedder.embed([*batch, *inputs * 2][: max(count, len(batch))])]
    embedder.close()
    return [np.frombuffer(vector, np.float32) for vector in found[: len(inputs)]]


@pytest.mark.parametrize("count", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_vectors_are_those_of_the_originals_arithmetic(kind: str, pooling: str, count: int, tmp_path: Path) -> None:
    made = random_encoder(kind, pooling)
    path = converted(tmp_path, made)
    for ids, vector in zip(INPUTS, computed(path, INPUTS, count), strict=True):
        np.testing.assert_allclose(vector / np.linalg.norm(vector), made.compute(ids), atol=NOISE)


@pytest.mark.parametrize("count", BATCHES.values(), ids=BATCHES)
def test_scores_are_those_of_the_originals_arithmetic(count: int, tmp_path: Path) -> None:
    made = random_encoder("xlm-roberta", "rank")
    path = converted(tmp_path, made)
    facts = check_gguf(path)
    assert facts.ranks
    scores = np.concatenate(computed(path, INPUTS, count))
    np.testing.assert_allclose(scores, np.concatenate([made.compute(ids) for ids in INPUTS]), atol=1e-4)
    assert np.ptp(scores) > 0.1


def test_vectors_keep_their_length_where_the_original_does_not_normalise(tmp_path: Path) -> None:
    made = random_encoder("bert", normalize=False)
    path = converted(tmp_path, made)
    assert not check_gguf(path).normalizes
    expected = made.compute(INPUTS[0])
    assert np.linalg.norm(expected) > 2
    (vector,) = computed(path, INPUTS[:1])
    np.testing.assert_allclose(vector / np.linalg.norm(expected), expected / np.linalg.norm(expected), atol=NOISE)


@pytest.mark.parametrize("quant", [QuantType.F16, QuantType.Q8_0])
def test_smaller_types_point_the_same_way(quant: QuantType, tmp_path: Path) -> None:
    made = random_encoder("bert")
    for ids, vector in zip(INPUTS, computed(converted(tmp_path, made, quant), INPUTS), strict=True):
        assert vector / np.linalg.norm(vector) @ made.compute(ids) > 0.999


def test_the_context_is_the_number_of_positions_that_a_text_may_take(tmp_path: Path) -> None:
    path = converted(tmp_path, random_encoder("xlm-roberta"))
    assert check_gguf(path).context_train == 48
    tokenizer = load_encoder_tokenizer(path)
    assert tokenizer.framed((7, 8), (9,)) == (0, 7, 8, 2, 2, 9, 2)


def test_without_pooling_nobody_can_tell_what_a_vector_is(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "checkpoint", random_encoder("bert"))
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"1_Pooling/config\.json is missing; it says how a vector is made"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_a_folder_without_the_files_of_sentence_transformers_is_taken_as_it_takes_it(tmp_path: Path) -> None:
    """Such as that of text2vec-large-chinese."""
    made = random_encoder("bert", normalize=False)
    folder = write_encoder(tmp_path / "checkpoint", made)
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "modules.json").unlink()
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    assert not check_gguf(tmp_path / "m.gguf").normalizes
    expected = made.compute(INPUTS[0])
    (vector,) = computed(tmp_path / "m.gguf", INPUTS[:1])
    np.testing.assert_allclose(vector / np.linalg.norm(expected), expected / np.linalg.norm(expected), atol=NOISE)


def edited(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


@pytest.mark.parametrize(
    ("made", "changes", "said"),
    [
        (random_encoder("bert"), {"hidden_act": "relu"}, "llama.cpp computes gelu"),
        (random_encoder("bert"), {"hidden_act": "gelu_new"}, "llama.cpp computes gelu"),
        (random_encoder("bert"), {"position_embedding_type": "relative_key"}, "must be absolute"),
        (random_encoder("xlm-roberta", "rank"), {"id2label": {"0": "a", "1": "b"}}, "a classifier with 2 labels"),
        (random_encoder("xlm-roberta", "rank"), {"type_vocab_size": 2}, "a reranker with 2 segments"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    made: Encoder, changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    folder = write_encoder(tmp_path / "checkpoint", made)
    edited(folder, "config.json", **changes)
    with pytest.raises(UnsupportedModelError, match=said):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_a_step_behind_the_pooling_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "checkpoint", random_encoder("bert"))
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]), "utf-8")
    with pytest.raises(UnsupportedModelError, match="its vectors go through Dense"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_a_module_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "checkpoint", random_encoder("bert"))
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules[1]["path"] = "../../secret"
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    with pytest.raises(ConvertError, match="no object with a type and a folder"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_tensors_of_another_model_are_named(tmp_path: Path) -> None:
    made = random_encoder("bert")
    folder = write_encoder(tmp_path / "checkpoint", made)
    write_safetensors(folder / "model.safetensors", {**made.weights, "projection.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(UnknownTensorError, match=r"projection\.weight"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_old_names_and_heads_of_the_training_do_not_matter(tmp_path: Path) -> None:
    """A BertForMaskedLM that was made with TensorFlow."""
    made = random_encoder("bert")
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in made.weights.items()
    }
    folder = write_encoder(tmp_path / "checkpoint", replace(made))
    write_safetensors(folder / "model.safetensors", {**old, "cls.predictions.bias": np.zeros(5, np.float32)})
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    (vector,) = computed(tmp_path / "m.gguf", INPUTS[:1])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), made.compute(INPUTS[0]), atol=NOISE)
