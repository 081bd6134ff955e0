"""However the weights are stored, the file that comes out is the same."""

from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import SMALL, Weights, make_weights, write_checkpoint
from tests.support.torch_bin import Stored, write_bin, write_bin_shards


def bin_checkpoint(folder: Path, weights: Weights, dtype: str, shards: int) -> Path:
    write_checkpoint(folder, SMALL, {})
    (folder / "model.safetensors").unlink()
    # As published: the shards also hold the rotary frequencies.
    tensors = {name: Stored(tensor, dtype) for name, tensor in weights.items()}
    tensors["transformer.rotary_pos_emb.inv_freq"] = Stored(np.ones(32, np.float32))
    if shards == 1:
        write_bin(folder / "pytorch_model.bin", tensors)
    else:
        write_bin_shards(folder, tensors, shards)
    return folder


@pytest.mark.parametrize(("dtype", "shards"), [("F16", 1), ("F16", 7), ("BF16", 3), ("F32", 2)])
def test_bin_shards_become_the_file_that_safetensors_become(tmp_path: Path, dtype: str, shards: int) -> None:
    weights = make_weights(SMALL, 3)
    safe = write_checkpoint(tmp_path / "safe", SMALL, weights, dtype=dtype)
    torch = bin_checkpoint(tmp_path / "torch", weights, dtype, shards)
    convert_checkpoint(safe, tmp_path / "safe.gguf", QuantType.Q4_K_M)
    convert_checkpoint(torch, tmp_path / "torch.gguf", QuantType.Q4_K_M)
    assert (tmp_path / "torch.gguf").read_bytes() == (tmp_path / "safe.gguf").read_bytes()
