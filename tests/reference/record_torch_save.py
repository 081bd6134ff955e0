"""Records a shard that torch itself wrote, for tests that have no torch.

Run as ``python -m tests.reference.record_torch_save``. The shard has what real ones have: a version on the
dictionary, a storage that two tensors share, a parameter.
"""

from collections import OrderedDict
from pathlib import Path

import torch

PATH = Path(__file__).with_name("torch-save.bin")


def main() -> None:
    """Write the file. ``test_convert_torch_bin.py`` knows its values."""
    shared = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        half=torch.arange(12, dtype=torch.float16).view(3, 4) / 4,
        brain=torch.tensor([1.0, -2.5, 3.0e38], dtype=torch.bfloat16),
        first_rows=shared.view(4, 6)[:2],
        middle_rows=shared.view(4, 6)[1:3],
        packed=torch.arange(-6, 6, dtype=torch.int8).view(3, 4),
        parameter=torch.nn.Parameter(torch.ones(2, 2)),
    )
    state._metadata = OrderedDict(layer={"version": 1})  # type: ignore[attr-defined]
    torch.save(state, PATH)


if __name__ == "__main__":
    main()
