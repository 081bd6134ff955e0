"""Makes a checkpoint folder as large as the real one, of random values: to try conversion without a download.

    python -m bench.synthetic.make_full_size CONFIG_FOLDER OUT [--format safetensors|bin] [--shards 7]

CONFIG_FOLDER holds the real ``config.json`` and ``tokenizer.model`` of a ChatGLM; tensors and shapes are those of
the model. Values are normal with deviation 0.02 and norms near 1, so the model computes finite nonsense.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.detect import detect
from tests.support.torch_bin import Stored, write_bin

Half = NDArray[np.float16]

# Prime, so that no row length divides it and no two rows of a matrix are the same.
_POOL_VALUES = 33_554_393


class RandomTensors:
    """Values by tensor: slices of one pool of random numbers, each from another place."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self._pool = (self._rng.standard_normal(_POOL_VALUES, dtype=np.float32) * 0.02).astype(np.float16)

    def pieces(self, tensor: TensorMapping) -> Iterator[Half]:
        """Yield the tensor's values in flat pieces, at most a pool at a time."""
        if len(tensor.shape) == 1:
            mean = 1.0 if "norm" in tensor.source else 0.0
            yield (mean + 0.1 * self._rng.standard_normal(tensor.shape[0])).astype(np.float16)
            return
        left = int(np.prod(tensor.shape))
        start = int(self._rng.integers(_POOL_VALUES))
        while left:
            piece = self._pool[start : start + left]
            left -= len(piece)
            start = 0
            yield piece


def main() -> None:
    """Write the folder that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config_folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--shards", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    make_folder(options.config_folder, options.out, options.format, options.shards, options.seed)


def make_folder(config_folder: Path, out: Path, kind: str, shards: int, seed: int) -> None:
    """Write a folder; ``kind`` is safetensors or bin."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json"):
        if (config_folder / name).exists():
            shutil.copyfile(config_folder / name, out / name)
    model = detect(out)
    # What the real folder holds beside them: the frequencies of ChatGLM's rotation, which no conversion needs.
    unused = (TensorMapping(name, "", (32,)) for name in model.ignored if name.endswith("rotary_pos_emb.inv_freq"))
    tensors = (*model.tensors(), *unused)
    values = RandomTensors(seed)
    stem, index = ("model", "model.safetensors.index.json") if kind == "safetensors" else (
        "pytorch_model", "pytorch_model.bin.index.json")  # fmt: skip
    weight_map: dict[str, str] = {}
    for number, part in enumerate(_parts(tensors, shards), 1):
        file = f"{stem}-{number:05}-of-{shards:05}.{kind}"
        if kind == "safetensors":
            _write_safetensors(out / file, part, values)
        else:
            write_bin(out / file, {t.source: Stored(_whole(t, values), "F16") for t in part})
        weight_map |= dict.fromkeys((t.source for t in part), file)
        print(f"{file}: {(out / file).stat().st_size / 1e9:.2f} GB, {len(part)} tensors")
    total = sum(2 * int(np.prod(t.shape)) for t in tensors)
    document = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (out / index).write_text(json.dumps(document, indent=2), encoding="utf-8")


def _parts(tensors: Sequence[TensorMapping], shards: int) -> Iterator[tuple[TensorMapping, ...]]:
    for i in range(shards):
        yield tuple(tensors[len(tensors) * i // shards : len(tensors) * (i + 1) // shards])


def _write_safetensors(path: Path, tensors: Sequence[TensorMapping], values: RandomTensors) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + 2 * int(np.prod(tensor.shape))
        header[tensor.source] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for tensor in tensors:
            for piece in values.pieces(tensor):
                file.write(piece.data)


def _whole(tensor: TensorMapping, values: RandomTensors) -> Half:
    return np.concatenate(list(values.pieces(tensor))).reshape(tensor.shape)


if __name__ == "__main__":
    main()
