"""The self-test of an engine, with llama.cpp: right models pass in every compute mode, and nothing is left of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import Unpack

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import ComputeMode, Device, EngineConfig, KvType
from glmserve.engine.embedding.llama_embedder import LlamaEmbedder
from glmserve.engine.errors import SelfTestFailed
from glmserve.engine.kv_cache.ops import CacheSnapshot
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.worker.entry import load_llama
from tests.support.bert import random_bert
from tests.support.changes import EngineChanges

TINY = Path(__file__).parents[2] / "models" / "tiny"
NOTHING = CacheSnapshot({}, frozenset(), frozenset(), frozenset())


def _load(path: Path, **changes: Unpack[EngineChanges]) -> LlamaModelRunner:
    runner = load_llama(replace(EngineConfig(path, context_length=256, device=Device.CPU), **changes))
    assert isinstance(runner, LlamaModelRunner)
    return runner


@pytest.mark.parametrize("mode", ComputeMode)
@pytest.mark.parametrize("quant", [QuantType.Q4_K_M, QuantType.Q8_0, QuantType.F16])
def test_every_mode_passes_and_leaves_the_cache_empty(quant: QuantType, mode: ComputeMode, tmp_path: Path) -> None:
    convert_checkpoint(TINY, tmp_path / "m.gguf", quant)
    runner = _load(tmp_path / "m.gguf", compute_mode=mode)
    runner.self_test()
    assert runner.kept() == NOTHING
    runner.close()


@pytest.mark.parametrize("kind", [KvType.Q8_0, KvType.Q4_0])
def test_a_quantised_cache_passes(kind: KvType, tiny_gguf: Path) -> None:
    runner = _load(tiny_gguf, kv_type=kind)
    runner.self_test()
    runner.close()


def test_wrong_outputs_of_a_real_model_are_found(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = _load(tiny_gguf)
    right = runner.logits

    def wrong(ids: tuple[int, ...], start: int) -> NDArray[np.float32]:
        return right(tuple((i + 1) % 300 for i in ids) if len(ids) == 8 else ids, start)

    monkeypatch.setattr(runner, "logits", wrong)
    with pytest.raises(SelfTestFailed, match="between batches of 8 and 33 tokens"):
        runner.self_test()
    runner.close()


def test_an_embedding_model_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_bert().write(tmp_path / "bert.gguf")
    embedder = load_llama(EngineConfig(tmp_path / "bert.gguf", device=Device.CPU))
    assert isinstance(embedder, LlamaEmbedder)
    embedder.self_test()
    right = embedder.embed

    def wrong(inputs: Sequence[tuple[int, ...]]) -> tuple[bytes, ...]:
        return right([ids[::-1] for ids in inputs] if len(inputs) == 1 else inputs)

    monkeypatch.setattr(embedder, "embed", wrong)
    with pytest.raises(SelfTestFailed, match="differ by"):
        embedder.self_test()
    embedder.close()
