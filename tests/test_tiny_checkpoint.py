"""The embedded tiny model: its layout, its tokenizer and its held-out samples, without torch."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from glmserve.models.tiny.training.intents import FIELDS

TINY = Path(__file__).resolve().parent.parent / "models" / "tiny"
MAX_BYTES = 9_900_000
SPECIAL_TOKENS = 5


def read_shapes() -> dict[str, tuple[int, ...]]:
    """Read the shapes out of the headers of the shards."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(TINY.glob("model-*.safetensors")):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        assert {entry["dtype"] for entry in header.values()} == {"F16"}
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items()}
    return shapes


def read_json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((TINY / name).read_text(encoding="utf-8"))
    return value


def read_rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (TINY / "heldout" / name).read_text(encoding="utf-8").splitlines()]


def test_shapes_are_those_of_chatglm2() -> None:
    config, shapes = read_json("config.json"), read_shapes()
    hidden, ffn, vocab = config["hidden_size"], config["ffn_hidden_size"], config["padded_vocab_size"]
    wide = hidden + 2 * config["multi_query_group_num"] * config["kv_channels"]
    expected = {
        "transformer.embedding.word_embeddings.weight": (vocab, hidden),
        "transformer.rotary_pos_emb.inv_freq": (32,),
        "transformer.encoder.final_layernorm.weight": (hidden,),
        "transformer.output_layer.weight": (vocab, hidden),
    }
    for layer in range(config["num_layers"]):
        prefix = f"transformer.encoder.layers.{layer}."
        expected |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "self_attention.query_key_value.weight": (wide, hidden),
            prefix + "self_attention.query_key_value.bias": (wide,),
            prefix + "self_attention.dense.weight": (hidden, hidden),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "mlp.dense_h_to_4h.weight": (2 * ffn, hidden),
            prefix + "mlp.dense_4h_to_h.weight": (hidden, ffn),
        }
    assert shapes == expected


def test_index_names_every_tensor_and_its_size() -> None:
    index, shapes = read_json("model.safetensors.index.json"), read_shapes()
    assert set(index["weight_map"]) == set(shapes)
    assert len(set(index["weight_map"].values())) >= 2
    sizes = [2 * shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes.values()]
    assert index["metadata"]["total_size"] == sum(sizes)


def test_special_ids_fit_between_the_pieces_and_the_padded_vocabulary() -> None:
    tokenizer = SentencePieceProcessor(model_proto=(TINY / "tokenizer.model").read_bytes())
    assert tokenizer.get_piece_size() + SPECIAL_TOKENS <= read_json("config.json")["padded_vocab_size"]
    assert [tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()] == [0, 1, 2, -1]
    pieces = [tokenizer.id_to_piece(at) for at in range(tokenizer.get_piece_size())]
    assert len(set(pieces)) == len(pieces)
    scores = [tokenizer.get_score(at) for at in range(259, len(pieces))]
    assert scores == sorted(set(scores), reverse=True)


@pytest.mark.parametrize(
    "text", ["你好，世界！", "Hello, world! 12", "a\n\nb", "罕见字：龘", "emoji 🙂", "  two  spaces"]
)
def test_tokenizer_gives_text_back(text: str) -> None:
    tokenizer = SentencePieceProcessor(model_proto=(TINY / "tokenizer.model").read_bytes())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_held_out_samples_are_well_formed() -> None:
    reviews, intents = read_rows("reviews.jsonl"), read_rows("intents.jsonl")
    assert len(reviews) == len(intents) == 100
    assert {row["answer"] for row in reviews} == {"正面", "负面"}
    for row in intents:
        assert [line.split("：")[0] for line in row["answer"].split("\n")] == list(FIELDS)


def test_size_stays_within_its_limit() -> None:
    files = [path for path in TINY.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
