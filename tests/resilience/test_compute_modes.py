"""A build of llama.cpp that is wrong for the CPU: the engine finds a mode that works before it takes requests."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from glmserve.engine.client import kernel_choice, machine_records
from glmserve.engine.client.client import EngineClient
from glmserve.engine.client.compute_modes import ModeMemory
from glmserve.engine.config import ComputeMode, Device, EngineConfig
from glmserve.engine.embedding.core import EmbeddingRunner
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.params import SamplingParams
from tests.conftest import running_server
from tests.support.faults import VARIABLE, load_faulty
from tests.support.sure_prompts import SURE
from tests.support.wrong_engines import load_crashing, load_miscomputing, load_never_right

PROMPT = SURE
TEN = SamplingParams(max_tokens=10, ignore_eos=True, temperature=0.0)
Load = Callable[[EngineConfig], ModelRunner | EmbeddingRunner]


class Started:
    """An engine that was waited for, and what it answered."""

    def __init__(self, path: Path, folder: Path, load: Load = load_faulty) -> None:
        config = EngineConfig(path, context_length=512, device=Device.CPU, mode_dir=folder, restart_wait=60.0)
        self.engine = EngineClient(config, load)

    async def answer(self) -> list[int]:
        await self.engine.start()
        try:
            await self.engine.wait_ready(120)
            outputs = [output async for output in await self.engine.submit(PROMPT, TEN)]
        finally:
            await self.engine.stop()
        return [token for output in outputs for token in output.token_ids]


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (load_crashing, "was ended by SIGSEGV while it tested itself"),
        (load_miscomputing, "computed wrong results: outputs differ by"),
    ],
    ids=["a crash", "wrong numbers"],
)
async def test_it_goes_on_in_the_next_safer_mode_and_the_next_start_begins_there(
    load: Load, says: str, tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = await Started(tiny_gguf, tmp_path).answer()
    assert _warnings(caplog) == []
    assert await Started(tiny_gguf, tmp_path, load).answer() == expected
    (line,) = _warnings(caplog)
    assert says in line
    assert "trying without repacked weights and AMX" in line
    remembered = ModeMemory(tmp_path, tiny_gguf).load()
    assert remembered is not None
    assert remembered.mode is ComputeMode.NO_EXTRA_BUFFERS
    caplog.clear()
    assert await Started(tiny_gguf, tmp_path, load).answer() == expected
    (line,) = _warnings(caplog)
    assert "remove" in line
    assert str(remembered.file) in line


@pytest.mark.parametrize("place", ["load", "self_test"])
async def test_the_safest_mode_is_reached_from_a_death_at_any_stage(
    place: str, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{place}^standard=segv,{place}^no_extra_buffers=ill")
    assert len(await Started(tiny_gguf, tmp_path).answer()) == 10
    remembered = ModeMemory(tmp_path, tiny_gguf).load()
    assert remembered is not None
    assert remembered.mode is ComputeMode.PLAIN_KERNELS
    stage = {"load": "while it loaded the model", "self_test": "while it tested itself"}[place]
    assert f"SIGSEGV {stage}" in remembered.reason
    assert f"SIGILL {stage}" in remembered.reason


async def test_a_large_file_that_passed_is_not_tested_again_before_it_changes(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(machine_records, "LARGE_BYTES", 0)
    model = tmp_path / "large.gguf"
    shutil.copyfile(tiny_gguf, model)
    monkeypatch.setattr(kernel_choice.KernelTrial, "choose", lambda _: None)
    expected = await Started(model, tmp_path / "modes").answer()
    monkeypatch.setenv(VARIABLE, "self_test^standard=segv")
    assert await Started(model, tmp_path / "modes").answer() == expected
    assert not any("tested itself" in line for line in _warnings(caplog))
    shutil.copyfile(tiny_gguf, model)
    assert await Started(model, tmp_path / "modes").answer() == expected
    assert any("was ended by SIGSEGV while it tested itself" in line for line in _warnings(caplog))


async def test_where_no_mode_works_all_that_was_tried_is_told(tiny_gguf: Path, tmp_path: Path) -> None:
    started = Started(tiny_gguf, tmp_path, load_never_right)
    with pytest.raises(ModelLoadError, match=r"install it again\. No compute mode works: .*not finite"):
        await started.answer()
    assert not list(tmp_path.iterdir())


async def test_a_build_for_another_cpu_is_called_that(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "load=ill")
    with pytest.raises(ModelLoadError, match="made for another CPU; compile it on this machine"):
        await Started(tiny_gguf, tmp_path).answer()


async def test_a_process_that_is_killed_says_nothing_of_its_mode(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "self_test^standard=kill")
    with pytest.raises(ModelLoadError, match="SIGKILL"):
        await Started(tiny_gguf, tmp_path).answer()
    assert not list(tmp_path.iterdir())


async def test_a_restart_finds_a_mode_too(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Started(tiny_gguf, tmp_path).engine
    await engine.start()
    try:
        await engine.wait_ready(60)
        monkeypatch.setenv(VARIABLE, "self_test^standard=segv")
        assert engine._process is not None
        engine._process.kill()
        outputs = [output async for output in await engine.submit(PROMPT, TEN)]
        assert sum(len(output.token_ids) for output in outputs) == 10
        assert (engine.status.state, engine.restarts_total) == (EngineState.READY, 1)
    finally:
        await engine.stop()


def test_a_server_answers_says_so_once_and_doctor_tells_of_it(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), log=tmp_path / "log", faults="self_test^standard=segv") as (url, _):
        ask = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 5}
        assert httpx.post(f"{url}/v1/chat/completions", json=ask, timeout=60).status_code == 200
        log = (tmp_path / "log").read_text("utf-8")
        assert log.count("was ended by SIGSEGV while it tested itself") == 1
    command = [str(Path(sys.executable).with_name("glmserve")), "doctor", "--json", str(tiny_gguf)]
    done = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "GLMSERVE_CACHE_DIR": str(tmp_path / "cache")}
    )
    report = json.loads(done.stdout)
    assert report["healthy"]
    assert report["models"][0]["compute_mode"]["mode"] == "no_extra_buffers"
    assert "SIGSEGV" in report["models"][0]["compute_mode"]["reason"]
