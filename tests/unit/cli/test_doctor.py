import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from glmserve import models
from glmserve.cli import trial
from glmserve.cli.doctor import DoctorModel, DoctorReport, show, to_json
from glmserve.cli.machine import CachedFile, Machine, Placed, Versions, find_cached, in_units
from glmserve.cli.main import main
from glmserve.cli.trial import CrashFault, ModeFault, TrialFault
from glmserve.engine.client.compute_modes import Remembered
from glmserve.engine.config import ComputeMode, EngineConfig
from glmserve.engine.llama.cpu_topology import Cores
from glmserve.engine.llama.placement import BuildFacts, DeviceFacts, Placement
from tests.support.minimal_gguf import write_gguf
from tests.unit.bootstrap.test_build import FACTS

GPU = DeviceFacts("CUDA0", "Some GPU", "gpu", 70 * 2**30, 80 * 2**30)
REPORT = DoctorReport(
    versions=Versions("0.1.0", "3.12.1", "0.3.36"),
    machine=Machine("Linux x86_64", 8, 4, 16 * 2**30),
    cache_dir=Path("/cache"),
    files=(CachedFile(Path("/cache/converted/some.gguf"), 4 * 2**30),),
    build=BuildFacts("0.3.36", "CPU : AVX2 = 1", True, (GPU,), Cores(4, 4)),
    models=(
        DoctorModel(
            "some",
            Path("/models/some.gguf"),
            "ready to be loaded",
            facts=FACTS,
            placed=Placed(Placement(3, 8192, 2**20, 72, 4, 4, 4, (4, 2), "Some GPU and CPU", on_cpu=True)),
        ),
        DoctorModel("other", Path("/models/other.gguf"), "is converted first"),
    ),
)


def page(report: DoctorReport) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show(report, console)
    return console.export_text()


def call(*args: str, cache: Path) -> Result:
    return CliRunner().invoke(main, ["doctor", *args], env={"GLMSERVE_CACHE_DIR": str(cache)})


def test_the_page_says_what_was_found_and_what_would_be_done() -> None:
    text = page(REPORT)
    for part in (
        "0.3.36", "4 of 8 usable", "Some GPU (gpu), 70.0 GiB of 80.0 GiB free", "converted/some.gguf", "4.0 GiB",
        "chatglm, 2 layers", "3 of 3", "8192 tokens for each answer", "1048576 tokens, 4.0 MiB", "is converted first",
        "Some GPU and CPU, 4 threads", "the fastest of 4, 2, measured when it loads, to generate, 4 to read prompts",
    ):  # fmt: skip
        assert part in text


def test_a_compute_mode_that_had_to_be_found_is_reported_with_its_reason() -> None:
    mode = Remembered(ComputeMode.NO_EXTRA_BUFFERS, "it died", Path("/cache/compute-modes/1.json"))
    changed = replace(REPORT, models=(replace(REPORT.models[0], compute_mode=mode),))
    expected = "without repacked weights and AMX, as it died (remove /cache/compute-modes/1.json to try it again)"
    assert expected in page(changed)
    assert "compute mode" not in page(REPORT)


@pytest.mark.parametrize(
    ("faults", "passes", "reason"),
    [
        ({}, True, None),
        ({"standard": ModeFault("wrong")}, True, "llama.cpp computed wrong results: wrong (as built)"),
        ({"standard": CrashFault("died")}, True, "llama.cpp ended the process (as built)"),
        (dict.fromkeys(ComputeMode, ModeFault("wrong")), False, None),
        ({"standard": TrialFault("damaged")}, False, None),
    ],
)
def test_the_self_test_goes_on_to_the_mode_that_the_server_would_take(
    faults: dict[str, TrialFault], passes: bool, reason: str | None, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU with AMX it said that a hybrid model was wrong, which the server served in another mode."""

    def scripted(_work: object, config: EngineConfig) -> None:
        if fault := faults.get(config.compute_mode.value):
            raise fault

    monkeypatch.setattr(trial, "_apart", scripted)
    done = call(str(tiny_gguf), "--json", cache=tiny_gguf.parent)
    (model,) = json.loads(done.output)["models"]
    assert (model["self_test"] == "passed", done.exit_code == 0) == (passes, passes)
    found = model["compute_mode"]
    assert (found and found["reason"]) == reason
    assert found is None or (found["mode"], found["file"]) == ("no_extra_buffers", None)
    assert ("compute mode" in call(str(tiny_gguf), cache=tiny_gguf.parent).output) == (found is not None)


def test_a_build_for_the_cpu_and_a_gpu_that_cannot_be_used_are_told_apart() -> None:
    assert REPORT.build is not None
    without = replace(REPORT.build, gpu_offload=False, devices=())
    assert "no: built for the CPU" in page(replace(REPORT, build=without))
    too_old = replace(without, backends=("CUDA", "CPU"))
    assert "its driver is too old" in page(replace(REPORT, build=too_old))


def test_a_problem_ends_the_page() -> None:
    broken = replace(REPORT, problem="llama.cpp cannot be loaded: [no] such library")
    assert page(broken).strip().endswith("Problem: llama.cpp cannot be loaded: [no] such library")
    assert not broken.healthy


def test_json_has_the_same() -> None:
    report = json.loads(json.dumps(to_json(REPORT), default=str))
    assert report["healthy"] is True
    assert [model["cache_bytes"] for model in report["models"]] == [2**22, 0]
    assert report["models"][0]["placed"]["placement"]["gpu_layers"] == 3
    assert report["files"][0]["size_bytes"] == 4 * 2**30


def test_it_works_before_anything_was_converted(tmp_path: Path) -> None:
    result = call("--json", cache=tmp_path / "empty")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert "is converted to q8_0 when it is served first" in report["models"][0]["state"]
    assert report["build"]["devices"]
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("model", ["missing.gguf", "gpt2.gguf"])
def test_a_model_that_cannot_be_served_ends_with_status_1(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "gpt2.gguf", "gpt2")
    result = call(model, "--json", cache=tmp_path)
    assert result.exit_code == 1
    assert model in json.loads(result.stdout)["models"][0]["state"]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (("--cache-dir", "file"), "file is not a folder; name a folder for converted models with --cache-dir"),
        (("--lora", "law=none.gguf"), "none.gguf: no such file; the adapter law needs it"),
    ],
)
def test_it_finds_what_would_keep_a_checkpoint_from_being_served(
    flags: tuple[str, ...], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    checkpoint = Path(models.__file__).parent / "tiny"
    result = call(str(checkpoint), "--json", *flags, cache=tmp_path / "cache")
    (model,) = json.loads(result.stdout)["models"]
    assert (result.exit_code, model["usable"]) == (1, False)
    assert model["state"].endswith(fault)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"], "it made something"


def test_a_faulty_key_is_told_as_serve_tells_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("short\n", "utf-8")
    result = call("--api-key-file", str(tmp_path / "keys"), cache=tmp_path)
    assert result.exit_code == 2
    assert "keys, line 1: a key has 8 to 256" in result.stderr


def test_it_finds_the_files_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "converted").mkdir()
    file = write_gguf(tmp_path / "converted" / "a.gguf", "chatglm")
    (tmp_path / "other.txt").touch()
    assert find_cached(tmp_path) == (CachedFile(file, file.stat().st_size),)


@pytest.mark.parametrize(
    ("library", "problem"),
    [
        ("import os; os.abort()", "llama.cpp ended the process that loaded it"),
        ("raise RuntimeError('libcudart.so: cannot open')", "llama.cpp cannot be loaded: libcudart.so"),
    ],
    ids=["crashes", "does not load"],
)
def test_it_survives_a_broken_build(
    library: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text(library)
    monkeypatch.syspath_prepend(tmp_path)
    result = call("--json", cache=tmp_path / "cache")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert problem in found["problem"]
    assert found["build"] is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**53, "8192.0 TiB")],
)
def test_bytes_are_put_in_units(count: int, text: str) -> None:
    assert in_units(count) == text
