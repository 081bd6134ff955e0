"""The suites: workloads and their model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from bench.compare.servers import Load
from bench.synthetic.make_widened import TINY, make_widened
from bench.synthetic.widened import SHAPES
from glmserve.cli.bench.workloads import Size
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType

_SIZE = Size(clients=8, stretch=0.73)
"""The stretch makes prompts in the embedded model's vocabulary as long as ChatGLM2's: about 140 and 790 tokens."""

_LONG = replace(_SIZE, clients=1, stretch=3.0)


@dataclass(frozen=True, slots=True)
class Suite:
    """One model and the workloads that are run on it."""

    name: str
    title: str
    workloads: tuple[str, ...]
    quant: QuantType = QuantType.Q4_K_M
    parallel: int = 8
    cells: int = 16384
    context: int = 8192
    size: Size = _SIZE
    apart: bool = False
    """See ``Load``."""


_ALL = ("single", "own", "shared", "turns", "arriving")

SUITES: Mapping[str, Suite] = MappingProxyType(
    {
        suite.name: suite
        for suite in (
            Suite("0.9b", "0.9B, q4_k_m", _ALL),
            Suite("0.9b-q4_0", "0.9B, q4_0", _ALL, QuantType.Q4_0),
            Suite("6b", "ChatGLM2-6B, q4_k_m", _ALL),
            Suite("6b-q4_0", "ChatGLM2-6B, q4_0", _ALL, QuantType.Q4_0),
            # A cache for each of 64 slots halves llama-server's time, and has to be large enough for each request.
            Suite("tiny", "the embedded model, q8_0", ("many",), QuantType.Q8_0, 64, 32768, 4096, apart=True),
            # One prompt that fills a batch of 512, so that every buffer has been used.
            Suite("memory", "ChatGLM2-6B, 8K context", ("own",), QuantType.Q4_0, cells=8192, context=8192, size=_LONG),
            Suite(
                "memory-32k",
                "ChatGLM2-6B, 32K context",
                ("own",),
                QuantType.Q4_0,
                cells=32768,
                context=32768,
                size=_LONG,
            ),
            Suite(
                "quick",
                "the embedded model, q8_0",
                (*_ALL, "many"),
                QuantType.Q8_0,
                8,
                16384,
                4096,
                size=replace(_SIZE, clients=2),
            ),
        )
    }
)

_SHAPE_OF = MappingProxyType(
    {"0.9b": "0.9b", "0.9b-q4_0": "0.9b", "6b": "6b", "6b-q4_0": "6b", "memory": "6b", "memory-32k": "6b"}
)


def prepare(suite: Suite, work: Path, threads: int) -> Load:
    """Make the model of ``suite`` unless it exists, and return the size of the servers."""
    shape = _SHAPE_OF.get(suite.name)
    model = work / f"{shape or 'tiny'}-{suite.quant.value}.gguf"
    if not model.exists():
        print(f"making {model}", flush=True)
        if shape:
            make_widened(TINY, SHAPES[shape], model, suite.quant)
        else:
            convert_checkpoint(TINY, model, suite.quant)
    return Load(model, suite.parallel, suite.cells, suite.context, threads, suite.apart)
