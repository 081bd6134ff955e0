"""Embedding models and rerankers against sentence-transformers: random weights in the shapes that authors publish.

Half an hour, 3 GiB of packages and 5 GiB of room. SOAK_PYTHON names an interpreter that has the packages already.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from glmserve.chat.tokenizer.encoder_tokenizer import EncoderTokenizer, load_encoder_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.llama_embedder import LlamaEmbedder
from glmserve.engine.gguf.gguf_check import check_gguf
from tests.support.real_encoders import PUBLISHED, PublishedEncoder

NOISE = 1e-4
PROGRAM = """\
import json, sys
import numpy as np
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
folder, out, pairs = sys.argv[1], sys.argv[2], json.load(sys.stdin)
torch.manual_seed(3)
config = transformers.AutoConfig.from_pretrained(folder)
model = getattr(transformers, config.architectures[0])(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
model.save_pretrained(folder)
del model
if config.architectures[0].endswith("Classification"):
    scorer = CrossEncoder(folder, device="cpu")
    found = scorer.predict(pairs, batch_size=1, activation_fn=torch.nn.Identity())
    ids = [scorer.tokenizer(*pair)["input_ids"] for pair in pairs]
else:
    encoder = SentenceTransformer(folder, device="cpu")
    found = encoder.encode([text for _, text in pairs], batch_size=1)
    ids = [encoder.tokenizer(text)["input_ids"] for _, text in pairs]
np.save(out, found)
print(json.dumps(ids))
"""
TEXTS = (
    "What is a panda?", "The quick brown fox jumps over the lazy dog.", "今天天气很好，我们去公园散步吧。", "x",
    "Café, naïve, Straße, ÅNGSTRÖM; 12,345.67 EUR ①②㍿ ﾜｰﾄﾞ", "知识库检索：如何更换花呗绑定银行卡？" * 12,
)  # fmt: skip
PAIRS = [["花呗更改绑定银行卡 how?", text] for text in TEXTS]
LONG = ["a long one", "知识库 retrieval " * 700]


@pytest.mark.parametrize("name", PUBLISHED)
def test_ids_vectors_and_scores_are_those_of_sentence_transformers(name: str, originals: Path, tmp_path: Path) -> None:
    made = PUBLISHED[name]
    folder = made.write(tmp_path / "checkpoint")
    pairs = [*PAIRS, LONG] if made.positions > 512 else PAIRS
    done = subprocess.run(
        [originals, "-c", PROGRAM, folder, tmp_path / "out.npy"],
        input=json.dumps(pairs), capture_output=True, text=True, check=True, timeout=1800,
    )  # fmt: skip
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    (folder / "model.safetensors").unlink()
    tokenizer = load_encoder_tokenizer(tmp_path / "m.gguf")
    assert isinstance(tokenizer, EncoderTokenizer)
    ids = _ids(made, tokenizer, pairs)
    assert [list(one) for one in ids] == json.loads(done.stdout.splitlines()[-1])
    assert max(map(len, ids)) > (2000 if made.positions > 512 else 100)
    expected = np.load(tmp_path / "out.npy").reshape(len(pairs), -1)
    found = _computed(tmp_path / "m.gguf", ids)
    (tmp_path / "m.gguf").unlink()
    assert np.ptp(expected, axis=0).max() > 100 * NOISE
    scale = 1.0 if made.pooling == "rank" else np.linalg.norm(expected, axis=1, keepdims=True)
    if made.normalizes and made.pooling != "rank":
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
    difference = float((np.abs(found - expected) / scale).max())
    print(f"{name}: largest difference of a number: {difference:.1e}")
    assert difference < NOISE


def _ids(made: PublishedEncoder, tokenizer: EncoderTokenizer, pairs: list[list[str]]) -> list[tuple[int, ...]]:
    if made.pooling == "rank":
        return [tokenizer.framed(tokenizer.encode(query), tokenizer.encode(text)) for query, text in pairs]
    return [tokenizer.encode_framed(text) for _, text in pairs]


def _computed(path: Path, ids: list[tuple[int, ...]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    embedder = LlamaEmbedder(EngineConfig(path), check_gguf(path))
    try:
        return np.array([np.frombuffer(embedder.embed([one])[0], np.float32) for one in ids])
    finally:
        embedder.close()
