"""Re-opens a finished file and tries it: does it hold what was planned, and does llama.cpp compute with it?

llama.cpp answers some bad files with ``abort()``, so it looks at the file in a process of its own
(``convert.verify_child``).
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf import GGUFReader, ReaderTensor

from convert.errors import VerifyError
from convert.gguf_header import TensorHeader
from convert.plan import ConversionPlan

DECODE_TIMEOUT = 900.0
"""Seconds for loading a model and computing a few tokens, from a cold disk."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was tried, and found good."""

    tensors: int
    texts: int = 0
    """Round trips from text to tokens and back."""
    decoded_tokens: int = 0

    def __str__(self) -> str:
        tried = f", {self.texts} texts to tokens and back, {self.decoded_tokens} tokens computed by llama.cpp"
        return f"verified: {self.tensors} tensors{tried if self.texts else ''}"


def verify_file(path: Path, plan: ConversionPlan) -> Verification:
    """Check a file against the plan that it was written by.

    An adapter or a prefix computes nothing by itself, so of these only the tensors are checked.

    Raises:
        VerifyError: something is not as it must be; the message says what.
    """
    tensors = _check_tensors(path, plan.tensors)
    if plan.metadata.get("general.type") != "model":
        return Verification(tensors)
    texts, decoded = _try_in_llama_cpp(path)
    return Verification(tensors, texts, decoded)


def _check_tensors(path: Path, planned: tuple[TensorHeader, ...]) -> int:
    try:
        found = {str(tensor.name): tensor for tensor in GGUFReader(path).tensors}
    except OSError as error:
        raise VerifyError(path, f"it cannot be read ({error.strerror})") from error
    except Exception as error:
        # The reader trusts the header's lengths, so a bad file can raise nearly anything in it.
        raise VerifyError(path, f"it is no readable GGUF file ({error})") from error
    size = path.stat().st_size
    for header in planned:
        tensor = found.pop(header.name, None)
        if tensor is None:
            raise VerifyError(path, f"tensor {header.name} is missing")
        _check_tensor(path, header, tensor, size)
    if found:
        raise VerifyError(path, f"it holds {len(found)} tensors too many, such as {next(iter(found))}")
    return len(planned)


def _check_tensor(path: Path, header: TensorHeader, tensor: ReaderTensor, file_size: int) -> None:
    shape = tuple(int(n) for n in tensor.shape[::-1])
    if shape != header.shape or int(tensor.tensor_type) != header.type:
        raise VerifyError(
            path,
            f"tensor {header.name} is {tensor.tensor_type.name} {list(shape)} where {header.type.name} "
            f"{list(header.shape)} was to be written",
        )
    if tensor.data_offset + tensor.n_bytes > file_size:
        raise VerifyError(path, f"it is cut off inside tensor {header.name}")


def _try_in_llama_cpp(path: Path) -> tuple[int, int]:
    command = [sys.executable, "-m", "convert.verify_child", str(path)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=DECODE_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise VerifyError(path, f"llama.cpp was not done with it after {DECODE_TIMEOUT:.0f} s") from error
    said = child.stderr.decode("utf-8", "replace").strip().splitlines()
    if child.returncode < 0:
        last = said[-1] if said else "it said nothing"
        raise VerifyError(path, f"llama.cpp ends with signal {-child.returncode} on it: {last}")
    if child.returncode:
        raise VerifyError(path, said[-1] if said else f"llama.cpp ends with {child.returncode} on it")
    answer = json.loads(child.stdout)
    return int(answer["texts"]), int(answer["tokens"])
