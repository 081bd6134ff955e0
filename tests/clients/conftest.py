"""A server as it is deployed for several programs: a model of each kind, further names, keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import running_server
from tests.support.bert import random_bert
from tests.support.encoders import random_encoder, write_encoder

RERANKER = random_encoder("xlm-roberta", "rank")


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
    scores = folder / "scores.gguf"
    convert_checkpoint(write_encoder(folder / "reranker", RERANKER), scores, QuantType.F32)
    keys = folder / "keys"
    keys.write_text("wide:sk-for-everything\nnarrow:sk-one-by-one concurrent=1\n")
    config = folder / "glmserve.toml"
    config.write_text(
        f'api_key_file = "{keys}"\n'
        f'[[models]]\nmodel = "{tiny_gguf}"\nalias = ["gpt-3.5-turbo"]\n'
        f'[[models]]\nmodel = "{vectors}"\n'
        f'[[models]]\nmodel = "{scores}"\nname = "bge-reranker-base"\n'
    )
    with running_server("--config", str(config), log=folder / "log") as (url, _):
        yield Deployment(url, "sk-for-everything", "sk-one-by-one")
