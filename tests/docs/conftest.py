"""One server for all examples of the documentation, under the names that the examples use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running_server
from tests.support.bert import random_bert

NAMES = ("chatglm2-6b", "gpt-3.5-turbo", "chatglm3-6b", "claude-sonnet-4-5")
"""What the examples call the embedded model besides its own name."""


@pytest.fixture(scope="session")
def documented(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has every model and name of the examples."""
    folder = tmp_path_factory.mktemp("documented")
    vectors = random_bert().write(folder / "bert.gguf")
    config = folder / "glmserve.toml"
    config.write_text(
        f'[[models]]\nmodel = "{tiny_gguf}"\nname = "chatglm2-tiny"\nalias = {list(NAMES)}\n'
        f'[[models]]\nmodel = "{vectors}"\nname = "minilm"\n'
    )
    with running_server("--config", str(config), log=folder / "log") as (url, _):
        yield url
