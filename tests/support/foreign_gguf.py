"""Models of our families as llama.cpp's own converter writes them: without our keys, with the authors' names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import Shape, make_weights, train_tokenizer, write_checkpoint
from tests.support.gguf_file import STRING, Described, Entry, GgufFile, packed, read_gguf

_LINES = ["今天天气很好，我们去公园散步吧！", "The quick brown fox stops, hops and shops at the top.", "def add(a, b):"]
_NAMES = {b"<sop>": b"sop", b"<eop>": b"eop", b"<s>": b"<bos>", b"</s>": b"<eos>"}
"""As conversion/chatglm.py of llama.cpp has them."""
_OURS = (
    "tokenizer.chat_template", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
)  # fmt: skip
_F32 = 0


def foreign_chatglm(path: Path, family: FamilyName, pre: str, *, tokenizer: bytes = b"", vocab: int = 0) -> GgufFile:
    """Write a small random ChatGLM2, ChatGLM3 or CodeGeeX2 of others, on a small vocabulary where none is given."""
    model = tokenizer or train_tokenizer(_LINES, 300, add_dummy_prefix=family is not FamilyName.CODEGEEX2)
    size = vocab or SentencePieceProcessor(model_proto=model).get_piece_size() + 20
    shape = Shape(hidden=256, heads=2, groups=1, layers=2, ffn=64, vocab=size)
    write_checkpoint(path.parent, shape, make_weights(shape, 1), tokenizer=model, dtype="F16")
    convert_checkpoint(path.parent, path, QuantType.F16, family=family)
    file = _without_our_keys(read_gguf(path), pre)
    tokens = [packed(_NAMES.get(item[8:], item[8:])) for item in file.find("tokenizer.ggml.tokens").items()]
    file = file.put(Entry.array("tokenizer.ggml.tokens", STRING, tokens))
    file.write(path)
    return file


def foreign_glm4(path: Path, tokenizer: bytes, pre: str = "chatglm-bpe") -> GgufFile:
    """Write a small random GLM-4 of others; ``tokenizer`` is tiktoken's file."""
    shape = Shape(hidden=256, heads=2, groups=1, layers=2, ffn=64, vocab=560)
    write_checkpoint(path.parent, shape, make_weights(shape, 1), tokenizer=tokenizer, dtype="F16")
    convert_checkpoint(path.parent, path, QuantType.F16, family=FamilyName.GLM4)
    file = _without_our_keys(read_gguf(path), pre)
    file.write(path)
    return file


def as_0414(file: GgufFile) -> GgufFile:
    """Return a GLM-4 as one of April 2025: architecture ``glm4``, with norms after attention and feed-forward."""
    entries = [replace(e, key=b"glm4" + e.key[7:]) if e.key.startswith(b"chatglm.") else e for e in file.entries]
    file = replace(file, entries=tuple(entries)).put(Entry.text("general.architecture", b"glm4"))
    data, tensors = file.data, list(file.tensors)
    for layer in range(2):
        for name in ("post_attention_norm", "post_ffw_norm"):
            data += bytes(-len(data) % 32)
            tensors.append(Described(f"blk.{layer}.{name}.weight".encode(), (256,), _F32, len(data)))
            data += np.ones(256, np.float32).tobytes()
    return replace(file, tensors=tuple(tensors), data=data)


def _without_our_keys(file: GgufFile, pre: str) -> GgufFile:
    ours = [entry.key.decode() for entry in file.entries if entry.key.startswith(b"glmserve.")]
    return file.drop(*ours, *_OURS).put(Entry.text("tokenizer.ggml.pre", pre.encode()))
