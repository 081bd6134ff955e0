"""Measures the conversion of a checkpoint folder against the usual two steps, as ratios in one run.

    python -m bench.synthetic.make_full_size CONFIG_FOLDER full
    python -m bench.convert_full_size full WORK_FOLDER [--types q4_0 q4_k_m] [--keep q4_0]

One step is this converter. Two steps are this converter's f16 file (llama.cpp's own converter stops on ChatGLM2's
tokenizer) and then llama.cpp's quantisation of that file, on all cores. Each runs in a process of its own, the
converter with the checkpoint out of the page cache, the second step with what the first one left in it. Taken are
wall time, processor time and the process's own peak of resident memory. The two results are compared byte by byte.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGUFReader

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a step."""

    wall: float
    """Seconds."""
    processor: float
    """Seconds, of all cores together."""
    peak_mib: float
    """Resident memory; pages of files that are mapped count, as the kernel counts them."""

    def __str__(self) -> str:
        return f"{self.wall:6.1f} s wall  {self.processor:6.1f} s processor  {self.peak_mib:6.0f} MiB peak"


def main() -> None:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--types", nargs="+", default=["q4_0", "q4_k_m"], choices=[q.value for q in QuantType])
    parser.add_argument("--keep", nargs="*", default=[], help="types whose file stays")
    parser.add_argument("--step", choices=("convert", "quantize"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.source, options.work, QuantType(options.types[0]))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    for line in os.popen("uptime"):  # a busy machine makes no measurement
        print(line.strip())
    f16 = options.work / "f16.gguf"
    first = measure("convert", options.source, f16, "f16")
    print(f"f16             {first}", flush=True)
    for kind in options.types:
        compare(options.source, options.work, f16, first, kind, keep=kind in options.keep)
    f16.unlink()


def compare(source: Path, work: Path, f16: Path, first: Cost, kind: str, *, keep: bool) -> None:
    """Convert to ``kind`` both ways and print the ratio."""
    ours, theirs = work / f"{kind}.gguf", work / f"{kind}.two-steps.gguf"
    one = measure("convert", source, ours, kind)
    print(f"{kind:8} one step {one}", flush=True)
    second = measure("quantize", f16, theirs, kind)
    print(f"{kind:8} second  {second}")
    ratio = one.wall / (first.wall + second.wall)
    print(f"{kind:8} {one.wall:.1f} / ({first.wall:.1f} + {second.wall:.1f}) = {ratio:.2f} of the time of both steps")
    print(f"{kind:8} bytes of all tensors equal: {same_tensors(ours, theirs)}", flush=True)
    theirs.unlink()
    if not keep:
        ours.unlink()


def measure(step: str, source: Path, out: Path, kind: str) -> Cost:
    """Run one step in a process of its own."""
    if step == "convert":
        forget(source)
    command = [sys.executable, "-m", "bench.convert_full_size", str(source), str(out), "--types", kind, "--step", step]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Cost(**json.loads(output.splitlines()[-1]))


def run_step(step: str, source: Path, out: Path, kind: QuantType) -> None:
    """Do one step in this process and print its cost."""
    started = time.monotonic()
    if step == "convert":
        convert_checkpoint(source, out, kind)
    else:
        quantize(source, out, kind)
    wall = time.monotonic() - started
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps(asdict(Cost(wall, time.process_time(), peak / 1024))))


def quantize(source: Path, out: Path, kind: QuantType) -> None:
    """Run the function of the program llama-quantize."""
    silent = llama_cpp.llama_log_callback(lambda *_: None)  # held here, or llama.cpp calls what is gone
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = kind.file_type
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) != 0:
        raise SystemExit("llama_model_quantize failed")


def forget(folder: Path) -> None:
    """Drop the pages of a folder's files from memory."""
    os.sync()
    for file in folder.iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def same_tensors(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same tensors, to the byte."""
    expected = {tensor.name: tensor for tensor in GGUFReader(other).tensors}
    found = GGUFReader(one).tensors
    return len(found) == len(expected) and all(
        tensor.tensor_type == expected[tensor.name].tensor_type
        and np.array_equal(tensor.data.reshape(-1), expected[tensor.name].data.reshape(-1))
        for tensor in found
    )


if __name__ == "__main__":
    main()
