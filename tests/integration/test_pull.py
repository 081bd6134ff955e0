"""`glmserve pull` and `glmserve list` against a stand-in of the model hub."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import running_server
from tests.support import hub
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint
from tests.support.hub import StandIn
from tests.support.slow_callers import wait_until

GLMSERVE = str(Path(sys.executable).with_name("glmserve"))
KNOWN, OWN = "zai-org/chatglm2-6b", "some-team/our-glm"
UNNEEDED = {"README.md": b"x", "pytorch_model.bin": b"x" * 10**6, "MODEL_LICENSE": b"x", "quantization.py": b"x"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("checkpoint")
    shape = Shape()
    write_checkpoint(folder, shape, make_weights(shape, 1))
    return {**hub.read_folder(folder), **UNNEEDED}


@pytest.fixture
def stand_in(files: dict[str, bytes]) -> Iterator[StandIn]:
    with hub.running(StandIn(OWN, dict(files))) as running:
        yield running


def environment(home: Path, url: str) -> dict[str, str]:
    ours = ("GLMSERVE_", "HF_", "HUGGING", "MODELSCOPE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept, "HOME": str(home), "HF_ENDPOINT": url, "HF_HOME": str(home / "hf"), "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_CACHE": str(home / "ms"), "GLMSERVE_CACHE_DIR": str(home / "cache"),
    }  # fmt: skip


def call(home: Path, url: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GLMSERVE, *args], capture_output=True, text=True, timeout=100, check=False,
        env={**environment(home, url), **more},
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("Error: ").strip()


def test_only_what_is_needed_is_downloaded_then_converted_listed_and_served(stand_in: StandIn, tmp_path: Path) -> None:
    done = call(tmp_path, stand_in.url, "pull", OWN, "--quant", "q8_0")
    assert done.returncode == 0, done.stderr
    assert stand_in.downloaded() == sorted(set(stand_in.files) - set(UNNEEDED))
    file = tmp_path / "cache" / "our-glm.q8_0.gguf"
    assert "glmserve serve our-glm" in done.stdout

    (row,) = json.loads(call(tmp_path, stand_in.url, "list", "--json").stdout)
    assert row == {
        "name": "our-glm", "type": "q8_0", "size_bytes": file.stat().st_size, "family": "chatglm2", "path": str(file),
    }  # fmt: skip
    flags = ("our-glm", "--cache-dir", str(tmp_path / "cache"), "--threads", "1")
    with running_server(*flags, log=tmp_path / "log"):
        assert "our-glm is ready" in (tmp_path / "log").read_text("utf-8")


def test_a_second_pull_downloads_and_converts_nothing_and_needs_no_hub_at_all(
    stand_in: StandIn, tmp_path: Path
) -> None:
    assert call(tmp_path, stand_in.url, "pull", OWN).returncode == 0
    stand_in.asked.clear()
    again = call(tmp_path, stand_in.url, "pull", OWN)
    assert stand_in.downloaded() == []
    assert "is up to date" in again.stderr
    offline = call(tmp_path, "http://127.0.0.1:9", "pull", OWN, "--local-files-only", "--quant", "f16")
    assert offline.returncode == 0, offline.stderr
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == ["our-glm.f16.gguf", "our-glm.q4_k_m.gguf"]


@pytest.mark.slow
def test_another_team_s_model_of_the_same_name_takes_no_place_unless_forced(stand_in: StandIn, tmp_path: Path) -> None:
    assert call(tmp_path, stand_in.url, "pull", OWN, "-q", "q8_0").returncode == 0
    file = tmp_path / "cache" / "our-glm.q8_0.gguf"
    before = file.read_bytes()
    write_checkpoint(tmp_path / "theirs", Shape(), make_weights(Shape(), 2))
    theirs = "other-team/our-glm"
    with hub.running(StandIn(theirs, hub.read_folder(tmp_path / "theirs"))) as running:
        done = call(tmp_path, running.url, "pull", theirs, "-q", "q8_0")
        assert done.returncode == 1
        assert "our-glm.q8_0.gguf exists and was not made from this source" in done.stderr
        os.utime(file, (2**33, 2**33))  # converted after theirs was downloaded
        assert "up to date" not in call(tmp_path, running.url, "pull", theirs, "-q", "q8_0").stderr
        assert file.read_bytes() == before
        assert call(tmp_path, running.url, "pull", theirs, "-q", "q8_0", "--force").returncode == 0
    assert file.read_bytes() != before


def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    shape, weights = Shape(vocab=8192), "model.safetensors"
    write_checkpoint(tmp_path / "checkpoint", shape, make_weights(shape, 1))
    files = hub.read_folder(tmp_path / "checkpoint")
    with hub.running(StandIn(OWN, files, cut={weights: len(files[weights]) * 2 // 3})) as stand_in:
        done = call(tmp_path, stand_in.url, "pull", OWN)
    assert done.returncode == 0, done.stderr
    first, second = stand_in.ranges(weights)
    assert (first, second.startswith("bytes=")) == ("", True)
    assert 0 <= len(files[weights]) * 2 // 3 - int(second.removeprefix("bytes=").partition("-")[0]) <= 2**20
    (downloaded,) = (tmp_path / "hf").rglob(f"snapshots/*/{weights}")
    assert downloaded.read_bytes() == files[weights]


@pytest.mark.parametrize("sent", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT])
def test_a_pull_that_is_stopped_ends_at_once_and_is_continued(sent: int, tmp_path: Path) -> None:
    shape, weights = Shape(vocab=8192), "model.safetensors"
    write_checkpoint(tmp_path / "checkpoint", shape, make_weights(shape, 1))
    files = hub.read_folder(tmp_path / "checkpoint")
    half = len(files[weights]) // 2
    args = [GLMSERVE, "pull", "chatglm2-6b"]
    with hub.running(StandIn("ZhipuAI/chatglm2-6b", files, held={weights: half})) as stand_in:
        environ = {**environment(tmp_path, stand_in.url), "GLMSERVE_HUB": "modelscope"}
        # A shell starts what it puts into the background with SIGINT ignored, and its children inherit that.
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipe = subprocess.PIPE
        running = subprocess.Popen(args, env=environ, stderr=pipe, preexec_fn=heeding)  # noqa: PLW1509 - calls C alone
        part = tmp_path / "ms/models/ZhipuAI--chatglm2-6b/snapshots/master" / f"{weights}.incomplete"
        wait_until(lambda: part.is_file() and part.stat().st_size >= half - 2**20, "half of the file", 90)
        running.send_signal(sent)
        running.communicate(timeout=30)  # the connection is silent for longer
        assert running.returncode == (130 if sent == signal.SIGINT else -sent)
        have = part.stat().st_size
        stand_in.released.set()
        done = call(tmp_path, stand_in.url, "pull", "THUDM/chatglm2-6b", "--from", "modelscope")
        assert done.returncode == 0, done.stderr
        assert stand_in.ranges(weights) == ["", f"bytes={have}-"]
    assert part.with_suffix("").read_bytes() == files[weights]
    assert (tmp_path / "cache" / "chatglm2-6b.q4_k_m.gguf").is_file()


@pytest.mark.slow
def test_what_a_stopped_run_had_completed_is_not_downloaded_again(stand_in: StandIn, tmp_path: Path) -> None:
    weights = next(name for name in stand_in.files if name.endswith(".safetensors"))
    config = stand_in.files.pop("tokenizer.model")
    assert "tokenizer.model is missing" in refused_with_bars(call(tmp_path, stand_in.url, "pull", OWN))
    stand_in.files["tokenizer.model"] = config
    stand_in.asked.clear()
    for tree in (tmp_path / "hf").rglob("trees/*"):  # the client keeps the list of a commit, which does not change
        tree.unlink()
    assert call(tmp_path, stand_in.url, "pull", OWN).returncode == 0
    assert stand_in.downloaded() == ["tokenizer.model"]
    assert weights not in stand_in.downloaded()


def refused_with_bars(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_a_private_model_wants_a_token_from_the_usual_place(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.token = "hf_secret"
    told = refused(call(tmp_path, stand_in.url, "pull", OWN))
    assert told == f"there is no model {OWN} for callers who are not logged in (`hf auth login`, or HF_TOKEN)"
    assert call(tmp_path, stand_in.url, "pull", OWN, HF_TOKEN="hf_secret").returncode == 0


def test_too_little_disk_is_said_before_anything_is_downloaded(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.claimed_sizes["model.safetensors"] = 10**18
    told = refused(call(tmp_path, stand_in.url, "pull", OWN))
    assert told.startswith("1350000000.0 GB are needed in ")
    assert "make room" in told
    assert stand_in.downloaded() == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("no/such",), "there is no model no/such"),
        ((OWN, "--revision", "v9"), f"{OWN} has no revision v9"),
        ((KNOWN, "--local-files-only"), f"{KNOWN} is not in "),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    args: tuple[str, ...], told: str, stand_in: StandIn, tmp_path: Path
) -> None:
    assert refused(call(tmp_path, stand_in.url, "pull", *args)).startswith(told)


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(tmp_path: Path) -> None:
    said = refused(call(tmp_path, "http://127.0.0.1:9", "pull", OWN))
    assert "could not be downloaded from http://127.0.0.1:9" in said


@pytest.mark.slow
def test_a_known_model_goes_by_its_short_name_and_its_checkpoint_is_listed(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    with hub.running(StandIn(KNOWN, files)) as stand_in:
        assert call(tmp_path, stand_in.url, "pull", "chatglm2-6b", "--quant", "q4_0").returncode == 0
    listed = json.loads(call(tmp_path, "http://127.0.0.1:9", "list", "--json").stdout)
    assert [(row["name"], row["type"], row["family"]) for row in listed] == [
        ("chatglm2-6b", "q4_0", "chatglm2"),
        ("chatglm2-6b", "checkpoint", "chatglm2"),
    ]
    table = call(tmp_path, "http://127.0.0.1:9", "list").stdout
    assert table.split()[:5] == ["name", "type", "size", "family", "path"]
