"""The built site; and one server for all examples, under the names that the examples use."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import ROOT, running_server
from tests.support.bert import random_bert
from tests.support.encoders import random_encoder, write_encoder

SITE_PYTHON = ROOT / ".venv-docs" / "bin" / "python"
NAMES = ("chatglm2-6b", "gpt-3.5-turbo", "chatglm3-6b", "claude-sonnet-4-5")
"""What the examples call the embedded model besides its own name."""


@pytest.fixture(scope="session")
def documented(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has every model and name of the examples."""
    folder = tmp_path_factory.mktemp("documented")
    vectors = random_bert().write(folder / "bert.gguf")
    scores = folder / "scores.gguf"
    convert_checkpoint(write_encoder(folder / "reranker", random_encoder("xlm-roberta", "rank")), scores, QuantType.F16)
    config = folder / "glmserve.toml"
    config.write_text(
        f'[[models]]\nmodel = "{tiny_gguf}"\nname = "chatglm2-tiny"\nalias = {list(NAMES)}\n'
        f'[[models]]\nmodel = "{vectors}"\nname = "minilm"\n'
        f'[[models]]\nmodel = "{scores}"\nname = "bge-reranker-base"\n'
    )
    with running_server("--config", str(config), log=folder / "log") as (url, _):
        yield url


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built."""
    out = tmp_path_factory.mktemp("built") / "site"
    command = [SITE_PYTHON, ROOT / "docs" / "sphinx" / "build.py", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return out
