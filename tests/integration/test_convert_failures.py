"""What is left, and what is said, when a conversion cannot be finished."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.convert.errors import ConvertError, OutputError, TensorShapeError, UnknownTensorError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import (
    SMALL,
    Shape,
    make_config,
    make_weights,
    small_tokenizer,
    write_checkpoint,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "hf", SMALL, make_weights(SMALL, 1), shards=2)


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_run_that_is_killed_leaves_no_file_that_looks_complete(checkpoint: Path, tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.pipeline import convert_checkpoint
def stop(step):
    if step.done_bytes * 2 > step.total_bytes:
        print("half", flush=True)
        time.sleep(60)
convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), QuantType.F32, stop)
"""
    out = tmp_path / "m.gguf"
    with start_python(code, checkpoint, out) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.gguf.part"]
    convert_checkpoint(checkpoint, out, QuantType.F32)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.gguf"]


def test_a_full_disk_is_one_line_and_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk: the same write fails, at the same place."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"was full before .* was complete; free some space"):
            convert_checkpoint(checkpoint, tmp_path / "m.gguf", QuantType.F32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("m.gguf*"))


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 1)
    name = "transformer.encoder.layers.2.self_attention.dense.weight"
    weights[name] = weights[name][:-1]
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    with pytest.raises(TensorShapeError, match=rf"{name} has shape \[511, 512\] .* requires \[512, 512\]"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_a_tensor_that_the_model_does_not_have_is_not_dropped(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 1)
    weights["transformer.prefix_encoder.embedding.weight"] = weights["transformer.output_layer.weight"]
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    with pytest.raises(UnknownTensorError, match=r"transformer\.prefix_encoder"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_rotary_frequencies_in_the_checkpoint_are_passed_over(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 1)
    weights["transformer.rotary_pos_emb.inv_freq"] = weights["transformer.encoder.final_layernorm.weight"][:32]
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    assert convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32).tensors == 3 + 7 * SMALL.layers


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.model", "model-00002-of-00002.safetensors"])
def test_a_missing_file_is_one_line_and_leaves_nothing(checkpoint: Path, tmp_path: Path, missing: str) -> None:
    (checkpoint / missing).unlink()
    with pytest.raises(ConvertError, match=f"{missing} is missing; ") as caught:
        convert_checkpoint(checkpoint, tmp_path / "m.gguf", QuantType.F32)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("m.gguf*"))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 1)
    del weights["transformer.output_layer.weight"]
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    with pytest.raises(ConvertError, match=r"no tensor transformer\.output_layer\.weight"):
        convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32)


def test_memory_does_not_grow_with_the_tensors(tmp_path: Path) -> None:
    """Two tensors of 537 MB, in a process that never holds more than a third of one, Python included."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc")
    shape = Shape(hidden=4096, heads=32, groups=2, layers=1, ffn=32, vocab=32768)
    write_sparse_checkpoint(tmp_path / "hf", shape)
    code = """
import sys
from pathlib import Path
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.pipeline import convert_checkpoint
report = convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), QuantType.Q4_0, threads=2)
# Not ru_maxrss, which a new process inherits from the one that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(report.bytes_in, peak.split()[1])
"""
    with start_python(code, tmp_path / "hf", tmp_path / "m.gguf") as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    bytes_in, peak_kib = map(int, output.split())
    print(f"{bytes_in / 1e6:.0f} MB of tensors, {peak_kib / 1024:.0f} MiB of memory at the peak")
    assert bytes_in > 1_000_000_000
    assert peak_kib < 160 * 1024


def write_sparse_checkpoint(folder: Path, shape: Shape) -> None:
    """Write a checkpoint of zeros that takes no space on disk."""
    from glmserve.convert.families.detect import detect

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(make_config(shape)), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(small_tokenizer())
    header: dict[str, object] = {}
    end = 0
    for tensor in detect(folder).tensors():
        values = tensor.shape[0] * (tensor.shape[1] if len(tensor.shape) > 1 else 1)
        begin, end = end, end + 4 * values
        header[tensor.source] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + end)
