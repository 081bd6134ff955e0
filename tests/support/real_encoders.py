"""Embedding models and rerankers by the configurations that their authors publish, on real vocabularies, no weights."""

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.encoders import unigram_json
from tests.support.llama_sources import vocabulary

_PHANTOM = "▁"
_XLM_ROBERTA_PIECES = 250002
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class PublishedEncoder:
    """One model. Its vocabulary is that of its family, which llama.cpp's sources have."""

    kind: str
    """``bert`` or ``xlm-roberta``."""
    layers: int
    width: int
    pooling: str
    """``cls``, ``mean``; ``none`` where the folder has no files of sentence-transformers; ``rank`` for a reranker."""
    normalizes: bool = True
    positions: int = 512

    def write(self, folder: Path) -> Path:
        """Write all of its files but the weights."""
        folder.mkdir()
        size = _write_wordpiece(folder) if self.kind == "bert" else _write_unigram(folder)
        _write(folder / "config.json", self._config(size))
        if self.pooling in ("cls", "mean"):
            modes = {"cls": "cls_token", "mean": "mean_tokens"}
            pooling = {f"pooling_mode_{mode}": name == self.pooling for name, mode in modes.items()}
            (folder / "1_Pooling").mkdir()
            _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": self.width, **pooling})
            (folder / "2_Normalize").mkdir()
            places = {"Transformer": "", "Pooling": "1_Pooling"}
            places |= {"Normalize": "2_Normalize"} if self.normalizes else {}
            modules = [
                {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, place) in enumerate(places.items())
            ]
            _write(folder / "modules.json", modules)
        return folder

    def _config(self, size: int) -> Mapping[str, object]:
        is_bert = self.kind == "bert"
        head = "ForSequenceClassification" if self.pooling == "rank" else "Model"
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}} if self.pooling == "rank" else {}
        return {
            "architectures": [f"{'Bert' if is_bert else 'XLMRoberta'}{head}"],
            "model_type": self.kind,
            "hidden_act": "gelu",
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // 64,
            "max_position_embeddings": self.positions if is_bert else self.positions + 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12 if is_bert else 1e-5,
            "pad_token_id": 0 if is_bert else 1,
            "type_vocab_size": 2 if is_bert else 1,
            "vocab_size": size,
            **labels,
        }


PUBLISHED: Mapping[str, PublishedEncoder] = {
    "bge-small-zh-v1.5": PublishedEncoder("bert", 4, 512, "cls"),
    "bge-base-zh-v1.5": PublishedEncoder("bert", 12, 768, "cls"),
    "bge-large-zh-v1.5": PublishedEncoder("bert", 24, 1024, "cls"),
    "m3e-base": PublishedEncoder("bert", 12, 768, "mean", normalizes=False),
    "text2vec-large-chinese": PublishedEncoder("bert", 24, 1024, "none", normalizes=False),
    "gte-base": PublishedEncoder("bert", 12, 768, "mean"),
    "gte-base-zh without normalisation": PublishedEncoder("bert", 12, 768, "cls", normalizes=False),
    "multilingual-e5-base": PublishedEncoder("xlm-roberta", 12, 768, "mean"),
    "bge-m3": PublishedEncoder("xlm-roberta", 24, 1024, "cls", positions=8192),
    "bge-reranker-base": PublishedEncoder("xlm-roberta", 12, 768, "rank"),
    "bge-reranker-large": PublishedEncoder("xlm-roberta", 24, 1024, "rank"),
    "bge-reranker-v2-m3": PublishedEncoder("xlm-roberta", 24, 1024, "rank", positions=8192),
}
"""Between them, every way to a vector or a score that is converted."""


def _write_wordpiece(folder: Path) -> int:
    tokens = [item[8:].decode() for item in vocabulary("bert-bge").find("tokenizer.ggml.tokens").items()]
    (folder / "vocab.txt").write_text("\n".join(map(_as_published, tokens)) + "\n", "utf-8")
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return len(tokens)


def _as_published(piece: str) -> str:
    if piece in _SPECIALS or piece.startswith("[unused"):
        return piece
    return piece.removeprefix(_PHANTOM) if piece.startswith(_PHANTOM) else f"##{piece}"


def _write_unigram(folder: Path) -> int:
    file = vocabulary("nomic-bert-moe")
    pieces = [item[8:].decode() for item in file.find("tokenizer.ggml.tokens").items()[:_XLM_ROBERTA_PIECES]]
    scores = [struct.unpack("<f", item)[0] for item in file.find("tokenizer.ggml.scores").items()]
    table = base64.b64encode(b"".join(file.find("tokenizer.ggml.precompiled_charsmap").items())).decode()
    whole = unigram_json("xlm-roberta")
    whole["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": table}
    model = {"type": "Unigram", "unk_id": 3, "vocab": list(zip(pieces, scores, strict=False)), "byte_fallback": False}
    added = [(0, "<s>"), (1, "<pad>"), (2, "</s>"), (3, "<unk>"), (_XLM_ROBERTA_PIECES - 1, "<mask>")]
    ways = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    whole["model"] = model
    whole["added_tokens"] = [{"id": number, "content": text, "special": True, **ways} for number, text in added]
    whole["post_processor"] = {
        "type": "TemplateProcessing",
        "single": _framed("<s>", "A", "</s>"),
        "pair": _framed("<s>", "A", "</s>", "</s>", "B", "</s>"),
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in ((0, "<s>"), (2, "</s>"))},
    }
    _write(folder / "tokenizer.json", whole)
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    tokens = {f"{key}_token": name for key, name in names.items()}
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **tokens})
    return len(pieces)


def _framed(*parts: str) -> list[object]:
    return [
        {"Sequence": {"id": part, "type_id": 0}} if part in "AB" else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in parts
    ]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
