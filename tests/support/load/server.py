"""The server that long runs ask: adapters, a pinned beginning, a small cache, engines that come and go."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import ROOT, running_server
from tests.support import baichuan_checkpoint
from tests.support.bert import random_bert
from tests.support.chatglm2_checkpoint import SMALL, make_weights
from tests.support.tuned_checkpoint import make_lora, tensors_of, write_adapter, write_prefix_folder

FORM = (ROOT / "models" / "tiny" / "prompts" / "review.txt").read_text("utf-8")
PINNED = FORM.partition("{text}")[0]
PREFIX_TOKENS = 16
BYTES_PER_TOKEN = 3072
"""Of the embedded model's cache: 3 layers with keys and values of 2 groups of 128 numbers of 2 bytes."""
_ATTENTION = ("self_attention.query_key_value", "self_attention.dense")

_CONFIG = """
cache_dir = "{folder}/cache"

[[models]]
model = "{tiny}"
name = "tiny"
context = 2048
cache_tokens = 6144
threads = 1
pin = ["{folder}/pinned.txt"]
"""
_MORE = """
adapters = [
    {{ name = "lora", lora = "{folder}/lora.gguf" }},
    {{ name = "prefix", prefix = "{folder}/prefix.gguf" }},
]

[[models]]
model = "{folder}/baichuan.gguf"
context = 1024
threads = 1
load = "first_use"
idle_seconds = 20

[[models]]
model = "{folder}/vectors.gguf"
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    host: str
    port: int
    pid: int
    log: Path
    everything: bool


@contextlib.contextmanager
def serving(tiny: Path, folder: Path, *, everything: bool) -> Iterator[Served]:
    """Serve the embedded model, with files below ``folder``; ``everything``: adapters and two more models."""
    (folder / "pinned.txt").write_text(PINNED, "utf-8")
    if everything:
        _make_others(folder)
    config = folder / "glmserve.toml"
    text = (_CONFIG + _MORE) if everything else _CONFIG
    config.write_text(text.format(tiny=tiny, folder=folder), "utf-8")
    log = folder / "log"
    with running_server("--config", str(config), log=log) as (url, process):
        host, port = url.removeprefix("http://").split(":")
        yield Served(host, int(port), process.pid, log, everything)


def _make_others(folder: Path) -> None:
    weights, shape = make_weights(SMALL, 9), baichuan_checkpoint.ROTARY
    sources = {
        "lora": write_adapter(folder / "lora", make_lora(weights, _ATTENTION)),
        "prefix": write_prefix_folder(folder / "prefix", tensors_of(PREFIX_TOKENS, projection=False)),
        "baichuan": baichuan_checkpoint.write_checkpoint(
            folder / "baichuan", shape, baichuan_checkpoint.make_weights(shape, 1)
        ),
    }
    for name, source in sources.items():
        convert_checkpoint(source, folder / f"{name}.gguf", QuantType.F32)
    random_bert().write(folder / "vectors.gguf")
