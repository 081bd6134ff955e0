"""Re-opens a finished file and tests it: its tensors match the plan, and llama.cpp computes with it.

llama.cpp answers some bad files with ``abort()``, so it looks at the file in a process of its own
(``glmserve.convert.verify_child``).
"""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf import ReaderTensor

from glmserve.convert.errors import UnverifiedError, VerifyError
from glmserve.convert.gguf_format import BoundedReader, TensorHeader
from glmserve.convert.plan import ConversionPlan

DECODE_TIMEOUT = 900.0
"""Seconds for loading a model and computing a few tokens, from a cold disk."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The checks that a file has passed."""

    tensors: int
    texts: int = 0
    """Round trips from text to tokens and back."""
    decoded_tokens: int = 0
    problem: str = ""
    """How llama.cpp failed with repacked weights, where only that failed: the fault is the build's, not the file's."""

    def __str__(self) -> str:
        tried = f", {self.texts} texts to tokens and back" if self.texts else ""
        tried += f", {self.decoded_tokens} tokens computed by llama.cpp" if self.decoded_tokens else ""
        without = f" without repacked weights (with them, on this CPU: {self.problem})" if self.problem else ""
        return f"verified: {self.tensors} tensors{tried}{without}"


def verify_file(path: Path, plan: ConversionPlan) -> Verification:
    """Check a file against the plan that it was written by.

    An adapter or a prefix computes nothing by itself, so of these only the tensors are checked.

    Raises:
        VerifyError: something is not as it must be; the message says what.
        UnverifiedError: it could not be tried here, and may well be good.
    """
    tensors = _check_tensors(path, plan.tensors)
    if plan.metadata.get("general.type") != "model":
        return Verification(tensors)
    return Verification(tensors, *_try_in_llama_cpp(path))


def _check_tensors(path: Path, planned: tuple[TensorHeader, ...]) -> int:
    try:
        found = {str(tensor.name): tensor for tensor in BoundedReader(path).tensors}
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


def _try_in_llama_cpp(path: Path) -> tuple[int, int, str]:
    """Return how many texts and tokens were tried, and how llama.cpp failed in its usual way, if it did."""
    usual = _run_child(path)
    if not usual.returncode:
        return *_counts(usual), ""
    # The fault may be the build's: repacked weights and AMX are what goes wrong on single CPUs.
    safer = _run_child(path, "--no-extra-buffers")
    if not safer.returncode:
        return *_counts(safer), _how(usual)
    if -signal.SIGILL in (usual.returncode, safer.returncode):
        raise UnverifiedError(path, "this build of llama.cpp was made for another CPU and cannot try it")
    raise VerifyError(path, _how(safer))


def _run_child(path: Path, *options: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "glmserve.convert.verify_child", str(path), *options]
    try:
        return subprocess.run(command, capture_output=True, timeout=DECODE_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise VerifyError(path, f"llama.cpp was not done with it after {DECODE_TIMEOUT:.0f} s") from error


def _counts(child: "subprocess.CompletedProcess[bytes]") -> tuple[int, int]:
    answer = json.loads(child.stdout)
    return int(answer["texts"]), int(answer["tokens"])


def _how(child: "subprocess.CompletedProcess[bytes]") -> str:
    said = child.stderr.decode("utf-8", "replace").strip().splitlines()
    if child.returncode < 0:
        return f"llama.cpp ends with signal {-child.returncode} on it: {said[-1] if said else 'it said nothing'}"
    return said[-1] if said else f"llama.cpp ends with {child.returncode} on it"
