"""Real vocabularies and chat templates: those that the sources of llama.cpp carry, read by path and never copied."""

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from tests.support.gguf_file import Described, Entry, GgufFile, read_gguf

_WANTED = "/vendor/llama.cpp/models/"
_F32, _F16, _UINT32, _FLOAT = 0, 1, 4, 6


def llama_models() -> Path:
    """Return the folder ``models`` of llama.cpp, unpacked once from the archive that ``make install-test`` fetches."""
    (archive,) = (Path(sys.prefix) / "llama-source").glob("*.tar.gz")
    unpacked = Path(tempfile.gettempdir()) / f"{archive.name.removesuffix('.tar.gz')}-models-{os.getuid()}"
    if not unpacked.exists():
        folder = Path(tempfile.mkdtemp(dir=unpacked.parent))
        with tarfile.open(archive) as file:
            for member in file:
                if _WANTED in member.name and member.isfile():
                    member.name = member.name.partition(_WANTED)[2]
                    file.extract(member, folder, filter="data")
        try:
            folder.rename(unpacked)
        except OSError:  # another process was faster
            shutil.rmtree(folder)
    return unpacked


def vocabulary(name: str) -> GgufFile:
    """Return the real vocabulary ``ggml-vocab-NAME.gguf``; it has no weights."""
    return read_gguf(llama_models() / f"ggml-vocab-{name}.gguf")


def template(name: str) -> str:
    """Return the text of the real chat template ``NAME.jinja``."""
    return (llama_models() / "templates" / f"{name}.jinja").read_text("utf-8")


def with_template(file: GgufFile, text: str) -> GgufFile:
    """Return ``file`` with another chat template."""
    return file.put(Entry.text("tokenizer.chat_template", text.encode()))


def with_weights(file: GgufFile, seed: int = 1, width: int = 64) -> GgufFile:
    """Return a whole model of the vocabulary ``file``: one layer of random weights, in the architecture qwen2."""
    numbers = np.random.default_rng(seed)
    size = len(file.find("tokenizer.ggml.tokens").items())
    figures = {"block_count": 1, "context_length": 4096, "embedding_length": width, "feed_forward_length": 2 * width}
    figures |= {"attention.head_count": 2, "attention.head_count_kv": 1}
    entries = [Entry.text("general.architecture", b"qwen2")]
    entries += [Entry.scalar(f"qwen2.{key}", _UINT32, value) for key, value in figures.items()]
    entries.append(Entry.scalar("qwen2.attention.layer_norm_rms_epsilon", _FLOAT, 1e-6))
    shapes = {
        "token_embd.weight": (size, width), "output_norm.weight": (width,), "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width), "blk.0.attn_q.bias": (width,),
        "blk.0.attn_k.weight": (width // 2, width), "blk.0.attn_k.bias": (width // 2,),
        "blk.0.attn_v.weight": (width // 2, width), "blk.0.attn_v.bias": (width // 2,),
        "blk.0.attn_output.weight": (width, width), "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (2 * width, width), "blk.0.ffn_up.weight": (2 * width, width),
        "blk.0.ffn_down.weight": (width, 2 * width),
    }  # fmt: skip
    tensors: list[Described] = []
    data = bytearray()
    for name, shape in shapes.items():
        kind = _F16 if len(shape) == 2 else _F32
        values = numbers.standard_normal(shape) * (0.3 if len(shape) == 2 else 1.0)
        tensors.append(Described(name.encode(), tuple(reversed(shape)), kind, len(data)))
        data += values.astype(np.float16 if kind == _F16 else np.float32).tobytes()
        data += bytes(-len(data) % 32)
    return GgufFile(file.put(*entries).entries, tuple(tensors), bytes(data))
