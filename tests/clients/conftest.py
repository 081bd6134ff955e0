"""A server as it is deployed for several programs: a model of each kind, further names, keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import running_server
from tests.support.bert import random_bert


@dataclass(frozen=True)
class Deployment:
    """What a client is configured with."""

    url: str
    key: str
    narrow_key: str
    """One whose requests run one after the other."""


@pytest.fixture(scope="session")
def deployment(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    vectors = random_bert().write(folder / "bert.gguf")
    keys = folder / "keys"
    keys.write_text("wide:sk-for-everything\nnarrow:sk-one-by-one concurrent=1\n")
    config = folder / "glmserve.toml"
    config.write_text(
        f'api_key_file = "{keys}"\n'
        f'[[models]]\nmodel = "{tiny_gguf}"\nalias = ["gpt-3.5-turbo"]\n'
        f'[[models]]\nmodel = "{vectors}"\n'
    )
    with running_server("--config", str(config), log=folder / "log") as (url, _):
        yield Deployment(url, "sk-for-everything", "sk-one-by-one")
