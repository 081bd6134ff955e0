"""Makes a GGUF with the answers of the embedded model and the cost of a larger one: see ``bench.synthetic.widened``.

    python -m bench.synthetic.make_widened 6b OUT.gguf [--quant q4_0] [--layers 7] [--source CHECKPOINT_FOLDER]

Cache hits, the acceptance of speculation and the lengths of answers are then real, and so is the time they take.
Memory stays at some tens of megabytes.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from bench.synthetic.widened import SHAPES, Shape, WidenedTensors, widen
from glmserve.convert.checkpoint.reader import open_checkpoint
from glmserve.convert.families.chatglm import ChatGLM
from glmserve.convert.families.detect import detect
from glmserve.convert.pipeline import write_plan
from glmserve.convert.plan import plan_model
from glmserve.convert.quantize.recipes import QuantType

TINY = Path(__file__).parents[2] / "models" / "tiny"


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quant", choices=[kind.value for kind in QuantType], default=QuantType.Q4_0.value)
    parser.add_argument("--source", type=Path, default=TINY)
    parser.add_argument("--layers", type=int, help="fewer than the shape has, for a part of its cost")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    shape = replace(shape, num_layers=options.layers or shape.num_layers)
    size = make_widened(options.source, shape, options.out, QuantType(options.quant))
    print(f"{options.out}: {size / 1e9:.2f} GB")


def make_widened(source: Path, shape: Shape, out: Path, quant: QuantType) -> int:
    """Write ``out`` and return its bytes. Raises ConvertError, or ValueError where the shape does not fit."""
    small = detect(source)
    if not isinstance(small, ChatGLM):
        raise ValueError(f"{source} is no ChatGLM")
    wide = widen(small, shape)
    tensors = WidenedTensors(small.prepare(open_checkpoint(source)), small.config, wide.config)
    return write_plan(plan_model(source, wide, tensors, quant), out)


if __name__ == "__main__":
    main()
