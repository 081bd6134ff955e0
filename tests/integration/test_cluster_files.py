"""A model of a cluster that is on no machine yet: replicas that start at once download and convert it once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hub
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint
from tests.support.hub import StandIn

PROGRAM = """
import sys
from pathlib import Path
from glmserve.cluster.files import plan_one
from glmserve.config.loader import load_settings
settings = load_settings({"model": "chatglm2-6b", "cache_dir": Path(sys.argv[1]), "quant": "q8_0"}, environ={})
print(plan_one(settings, settings.models[0]).facts.path)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(folder, Shape(), make_weights(Shape(), 1))
    with hub.running(StandIn("zai-org/chatglm2-6b", hub.read_folder(folder))) as running:
        yield running


def test_replicas_download_and_convert_a_known_model_once(stand_in: StandIn, tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path), "HF_ENDPOINT": stand_in.url, "HF_HOME": str(tmp_path / "hf")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "cache")], stdout=subprocess.PIPE, text=True, env=environ
        )
        for _ in range(2)
    ]
    told = {one.communicate(timeout=120)[0].strip() for one in started}
    assert told == {str(tmp_path / "cache" / "chatglm2-6b.q8_0.gguf")}
    weights = [one for one in stand_in.asked if one.method == "GET" and one.path.endswith(".safetensors")]
    assert len(weights) == len({one.path for one in weights})


def test_what_the_hub_does_not_have_is_said(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.repository = "somebody/else"
    environ = {**os.environ, "HOME": str(tmp_path), "HF_ENDPOINT": stand_in.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "cache")],
        capture_output=True, text=True, env=environ, timeout=120, check=False,
    )  # fmt: skip
    assert "UnknownModelError: chatglm2-6b could not be downloaded: Error: " in done.stderr
