"""Small random checkpoints of BERT and XLM-RoBERTa in Hugging Face's layout, and what they compute, in numpy.

The arithmetic is that of transformers and sentence-transformers, by their names of the tensors: the reference that the
converted files are compared with. It shares no code with the converter.
"""

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from tests.support.chatglm2_checkpoint import write_safetensors

Array = NDArray[np.float32]

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNIGRAM_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
WORDS = (
    "the", "cat", "sat", "on", "mat", "##s", "##ing", "##ed", "a", "b", "c", "d", "e", "##a", "##b", "##c", "##d",
    "##e", "hello", "world", "你", "好", "今", "天", "气", "北", "京", "，", "。", "!", "?", ".", ",", "[", "]", "i",
    "##i", "cafe", "strasse", "##0", "##1", "0", "1", "2", "中", "国", "人", "ß", "ø", "##ø", "[unused1]",
    "##▁", "▁", "ς", "σ",
)  # fmt: skip
WORDPIECES = tuple(dict.fromkeys((*BERT_SPECIALS, *WORDS)))

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Encoder:
    """A checkpoint: its configuration, its weights, and how a vector or a score comes of them."""

    kind: str
    """``bert`` or ``xlm-roberta``."""
    pooling: str = "mean"
    """``cls``, ``mean``, ``lasttoken``; or ``rank`` for a reranker."""
    normalize: bool = True
    layers: int = 2
    width: int = 256
    heads: int = 8
    feed_forward: int = 512
    positions: int = 48
    """That a text may take."""
    seed: int = 0
    vocabulary: int = 0
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        """Rows of the positions that are never used."""
        return 2 if self.kind == "xlm-roberta" else 0

    def compute(self, ids: Sequence[int]) -> Array:
        """Return the vector of a text, or the one number that the head gives a pair."""
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        positions = np.arange(len(ids)) + self.offset
        x = w["embeddings.word_embeddings.weight"][list(ids)]
        x = x + w["embeddings.position_embeddings.weight"][positions] + w["embeddings.token_type_embeddings.weight"][0]
        x = _norm(w, "embeddings.LayerNorm", x)
        for layer in range(self.layers):
            x = self._layer(w, f"encoder.layer.{layer}", x)
        if self.pooling == "rank":
            inner = np.tanh(_linear(w, "classifier.dense", x[0]))
            return _linear(w, "classifier.out_proj", inner).astype(np.float32)
        vector = {"cls": x[0], "lasttoken": x[-1], "mean": x.mean(0)}[self.pooling]
        scaled: NDArray[np.float64] = vector / np.linalg.norm(vector) if self.normalize else vector
        return scaled.astype(np.float32)

    def _layer(self, w: dict[str, NDArray[np.float64]], at: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        def heads(name: str) -> NDArray[np.float64]:
            rows = _linear(w, f"{at}.attention.self.{name}", x).reshape(len(x), self.heads, -1)
            by_head: NDArray[np.float64] = rows.transpose(1, 0, 2)
            return by_head

        scores = heads("query") @ heads("key").transpose(0, 2, 1) / math.sqrt(self.width // self.heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ heads("value")
        mixed = mixed.transpose(1, 0, 2).reshape(len(x), self.width)
        x = _norm(w, f"{at}.attention.output.LayerNorm", x + _linear(w, f"{at}.attention.output.dense", mixed))
        inner = _linear(w, f"{at}.intermediate.dense", x)
        inner = 0.5 * inner * (1 + _erf(inner / math.sqrt(2)))
        return _norm(w, f"{at}.output.LayerNorm", x + _linear(w, f"{at}.output.dense", inner))


def _linear(w: dict[str, NDArray[np.float64]], name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return rows


def _norm(w: dict[str, NDArray[np.float64]], name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    rows: NDArray[np.float64] = scaled * w[f"{name}.weight"] + w[f"{name}.bias"]
    return rows


def random_encoder(kind: str, pooling: str = "mean", *, normalize: bool = True, seed: int = 0) -> Encoder:
    """Return one with weights of about the size that trained ones have."""
    vocabulary = len(WORDPIECES) if kind == "bert" else len(unigram_vocabulary()) + 4
    made = Encoder(kind, pooling, normalize, seed=seed, vocabulary=vocabulary)
    random = np.random.default_rng(seed)
    width, inner = made.width, made.feed_forward
    segments = 2 if kind == "bert" else 1
    shapes = {
        "embeddings.word_embeddings": (vocabulary, width),
        "embeddings.position_embeddings": (made.positions + made.offset, width),
        "embeddings.token_type_embeddings": (segments, width),
    }
    weights = {f"{name}.weight": random.normal(0, 0.3, shape) for name, shape in shapes.items()}
    linear = {}
    norms = ["embeddings.LayerNorm"]
    for layer in range(made.layers):
        at = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear[f"{at}.attention.{name}"] = (width, width)
        linear[f"{at}.intermediate.dense"] = (inner, width)
        linear[f"{at}.output.dense"] = (width, inner)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    if pooling == "rank":
        linear |= {"classifier.dense": (width, width), "classifier.out_proj": (1, width)}
    for name, (rows, columns) in linear.items():
        weights[f"{name}.weight"] = random.normal(0, 1 / math.sqrt(columns), (rows, columns))
        weights[f"{name}.bias"] = random.normal(0, 0.1, rows)
    for name in norms:
        weights[f"{name}.weight"] = random.normal(1, 0.1, width)
        weights[f"{name}.bias"] = random.normal(0, 0.1, width)
    made.weights.update({name: value.astype(np.float32) for name, value in weights.items()})
    return made


def write_encoder(folder: Path, made: Encoder) -> Path:
    """Write a checkpoint as the authors of bge publish theirs: wrapped names, pooling and modules beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = made.pooling == "rank"
    is_bert = made.kind == "bert"
    config = {
        "architectures": [f"{'Bert' if is_bert else 'XLMRoberta'}{'ForSequenceClassification' if ranks else 'Model'}"],
        "model_type": made.kind,
        "hidden_act": "gelu",
        "hidden_size": made.width,
        "intermediate_size": made.feed_forward,
        "num_hidden_layers": made.layers,
        "num_attention_heads": made.heads,
        "max_position_embeddings": made.positions + made.offset,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 0 if is_bert else 1,
        "type_vocab_size": 2 if is_bert else 1,
        "vocab_size": made.vocabulary,
        **({"id2label": {"0": "LABEL_0"}} if ranks else {}),
    }
    _write(folder / "config.json", config)
    wrapper = "roberta." if ranks else ""
    tensors = {name if name.startswith("classifier") else wrapper + name: value for name, value in made.weights.items()}
    if not ranks:  # what a checkpoint has besides, and nothing of a vector comes of
        tensors["pooler.dense.weight"] = np.zeros((made.width, made.width), np.float32)
        tensors["pooler.dense.bias"] = np.zeros(made.width, np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    if is_bert:
        (folder / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n", "utf-8")
        _write(folder / "tokenizer_config.json", {"do_lower_case": True, "tokenize_chinese_chars": True})
    else:
        (folder / "sentencepiece.bpe.model").write_bytes(unigram_model())
    if not ranks:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        modes = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}
        pooling = {f"pooling_mode_{mode}": name == made.pooling for name, mode in modes.items()}
        _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": made.width, **pooling})
        kinds = ["Transformer", "Pooling", *(["Normalize"] if made.normalize else [])]
        paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ]
        _write(folder / "modules.json", modules)
    return folder


def wordpiece_json(*, lowercase: bool = True, strip_accents: bool | None = None) -> dict[str, object]:
    """Return a ``tokenizer.json`` as BERT's have it."""
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": strip_accents,
        "lowercase": lowercase,
    }
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: number for number, piece in enumerate(WORDPIECES)},
    }
    added = [_added(number, piece) for number, piece in enumerate(BERT_SPECIALS)]
    return _tokenizer(added, normalizer, {"type": "BertPreTokenizer"}, model)


UNIGRAM_STEPS: dict[str, tuple[list[dict[str, object]], dict[str, object]]] = {
    "bge-m3": (
        [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}],
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    ),
    "converted by transformers": (
        [
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
        ],
        {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    ),
    "xlm-roberta": (
        [],
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            ],
        },
    ),
}
"""What follows the table of replacements, and what splits words, in the tokenizers of several models."""


def unigram_json(steps: str) -> dict[str, object]:
    """Return a ``tokenizer.json`` as XLM-RoBERTa's have it."""
    after, split = UNIGRAM_STEPS[steps]
    charsmap = base64.b64encode(_charsmap()).decode()
    normalizer = {
        "type": "Sequence",
        "normalizers": [{"type": "Precompiled", "precompiled_charsmap": charsmap}, *after],
    }
    vocabulary = [[name, 0.0] for name in UNIGRAM_SPECIALS] + [list(entry) for entry in unigram_vocabulary()[1:]]
    vocabulary.append(["<mask>", 0.0])
    special = [*enumerate(UNIGRAM_SPECIALS), (len(vocabulary) - 1, "<mask>")]
    model = {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False}
    return _tokenizer([_added(number, piece) for number, piece in special], normalizer, split, model)


def _tokenizer(added: object, normalizer: object, split: object, model: object) -> dict[str, object]:
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": split, "post_processor": None, "decoder": None, "model": model,
    }  # fmt: skip


def _added(number: int, piece: str) -> dict[str, object]:
    ways = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": piece, "special": True, **ways}


@cache
def unigram_model() -> bytes:
    """Return a small SentencePiece model of the kind that XLM-RoBERTa has, with its normalisation."""
    texts = Path(__file__).parents[2].joinpath("docs", "zh").glob("*.md")
    lines = [line for path in sorted(texts) for line in path.read_text("utf-8").splitlines() if line.strip()]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=2000, model_type="unigram",
        character_coverage=0.999, normalization_rule_name="nmt_nfkc", hard_vocab_limit=False, minloglevel=2,
        num_threads=1, max_sentence_length=20000,
    )  # fmt: skip
    return out.getvalue()


@cache
def unigram_vocabulary() -> tuple[tuple[str, float], ...]:
    """Return its pieces with their scores, from the unknown one on, without <s> and </s>."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=unigram_model())
    entries = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    return (entries[0], *entries[3:])


def _charsmap() -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(unigram_model())
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
