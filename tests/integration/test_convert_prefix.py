"""P-Tuning v2 in the real engine, against numpy with the prefix's keys and values given explicitly."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from glmserve.convert.cli import convert
from glmserve.convert.errors import (
    ConvertError,
    CorruptFileError,
    MissingTensorError,
    TensorShapeError,
    UnknownTensorError,
)
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.config import Adapter, Device, EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.kv_cache.ops import CopyPrefix
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.worker.core import EngineCore
from tests.reference.numpy_chatglm2 import Prefix, forward
from tests.support.chatglm2_checkpoint import SMALL, SMALL_32K, Shape, Weights, make_weights

from tests.support.chatglm2_checkpoint import write_checkpoint  # isort: skip
from tests.support.native_context import exact_cache, last_logits
from tests.support.tuned_checkpoint import ROOT, WIDTH, meant, tensors_of, write_prefix_folder

SEED = 8
TOLERANCE = 1e-3
"""On logits of deviation 3, with a cache in float32."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    return make_weights(SMALL, SEED)


def converted(folder: Path, shape: Shape, weights: Weights) -> Path:
    write_checkpoint(folder, shape, weights)
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F32)
    return folder / "m.gguf"


def runner_with(model: Path, *adapters: Adapter, context: int = 2048, parallel: int = 1) -> LlamaModelRunner:
    # One thread: steps this small take longer to hand out than to compute.
    return LlamaModelRunner(
        EngineConfig(
            model,
            context_length=context,
            parallel=parallel,
            threads=1,
            threads_batch=1,
            device=Device.CPU,
            adapters=adapters,
        ),
        check_gguf(model),
    )


def prompt_of(length: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng(length).integers(3, SMALL.vocab, length))


def logits_after(runner: LlamaModelRunner, adapter: str, prompt: tuple[int, ...]) -> np.ndarray:
    """Lay the prefix into one slot, share it with another, and compute the prompt there in two pieces."""
    loaded = runner.adapters[adapter]
    runner.load_prefix(adapter, 1)
    runner.apply(CopyPrefix(1, 0, loaded.prefix_length))
    sequence = Sequence(1, loaded.key(prompt), SamplingParams(max_tokens=1), 1, num_prefix_tokens=loaded.prefix_length)
    at, middle = loaded.prefix_length, loaded.prefix_length + len(prompt) // 2
    runner.decode((BatchItem(sequence, 0, at, sequence.prompt_ids[at:middle], False),))
    runner.decode((BatchItem(sequence, 0, middle, sequence.prompt_ids[middle:], True),))
    return last_logits(runner)


@dataclass(frozen=True)
class Case:
    shape: Shape
    cells: int
    tokens: int
    projection: bool


CASES = (
    Case(SMALL, 16, 17, False),
    Case(SMALL, 128, 17, True),
    Case(SMALL, 16, 780, True),
    Case(SMALL, 128, 780, False),
    Case(SMALL_32K, 128, 17, False),
    Case(SMALL_32K, 16, 780, True),
)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c.cells}-{c.tokens}-{c.shape.rope_ratio}-{'projected' * c.projection or 'rows'}"
)
def test_logits_are_those_of_explicit_keys_and_values(case: Case, weights: Weights, tmp_path: Path) -> None:
    model = converted(tmp_path / "hf", case.shape, weights)
    tensors = tensors_of(case.cells, projection=case.projection)
    folder = write_prefix_folder(tmp_path / "tuned", tensors, as_bin=case.projection)
    report = convert_checkpoint(folder, tmp_path / "prefix.gguf", QuantType.Q4_K_M)
    prompt = prompt_of(case.tokens)
    expected = forward(weights, case.shape, prompt, prefix=meant(tensors))[-1]
    adapter = Adapter("tuned", prefix=tmp_path / "prefix.gguf")
    with exact_cache():
        exact = runner_with(model, adapter)
    usual = runner_with(model, adapter)
    differences = [np.abs(logits_after(runner, "tuned", prompt) - expected).max() for runner in (exact, usual)]
    for runner in (exact, usual):
        runner.close()
    print(f"{case}: {differences[0]:.1e} with a cache in f32, {differences[1]:.1e} in f16")
    assert differences[0] <= TOLERANCE
    assert differences[1] <= 0.05
    assert np.abs(forward(weights, case.shape, prompt)[-1] - expected).max() > 0.5, "a prefix without effect"
    assert report.findings[0].startswith(f"prefix: P-Tuning v2, {case.cells} tokens")


GREEDY = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)


@pytest.fixture
def core(weights: Weights, tmp_path: Path) -> Iterator[EngineCore]:
    """The plain model and two adapters of it in one engine."""
    model = converted(tmp_path / "hf", SMALL, weights)
    adapters = []
    for name, length in (("short", 16), ("long", 128)):
        tuned = write_prefix_folder(tmp_path / name, tensors_of(length, projection=False))
        convert_checkpoint(tuned, tmp_path / f"{name}.gguf", QuantType.F32)
        adapters.append(Adapter(name, prefix=tmp_path / f"{name}.gguf"))
    with exact_cache():
        runner = runner_with(model, *adapters, context=256, parallel=6)
    yield EngineCore(runner, TokenBudgetPolicy(10.0, 128))
    runner.close()


def run(core: EngineCore, requests: list[Submit], *, abort: int | None = None) -> dict[int, list[int]]:
    """Run requests to their end, one of them aborted after the second step; their tokens by request id."""
    tokens: dict[int, list[int]] = {request.request_id: [] for request in requests}
    for request in requests:
        assert core.submit(request) is None
    steps = 0
    while core.has_work:
        for output in core.step().outputs:
            assert not output.error
            tokens[output.request_id] += output.token_ids
        core.check_integrity()
        steps += 1
        if abort is not None and steps == 2:
            core.abort(abort)
    return tokens


def greedy(weights: Weights, prompt: tuple[int, ...], prefix: Prefix | None) -> list[int]:
    ids = list(prompt)
    for _ in range(GREEDY.max_tokens):
        ids.append(int(forward(weights, SMALL, ids, prefix=prefix)[-1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.slow
def test_requests_with_and_without_prefixes_run_together_as_they_run_alone(core: EngineCore, weights: Weights) -> None:
    """The same prompts for all, so that a cache that mixed them up would be seen; more of them than slots run."""
    prefixes = {
        "": None,
        "short": meant(tensors_of(16, projection=False)),
        "long": meant(tensors_of(128, projection=False)),
    }
    prompts = [prompt_of(20), prompt_of(33), prompt_of(20) + prompt_of(5)]
    asked = [(prompt, adapter) for prompt in prompts for adapter in prefixes]
    alone = {i: run(core, [Submit(i, p, GREEDY, v)])[i] for i, (p, v) in enumerate(asked)}
    expected = {i: greedy(weights, p, prefixes[v]) for i, (p, v) in enumerate(asked)}
    assert alone == expected
    assert len({tuple(ids) for ids in alone.values()}) == len(asked)
    for round_number in (1, 2):
        first = 100 * round_number
        together = run(core, [Submit(first + i, p, GREEDY, v) for i, (p, v) in enumerate(asked)], abort=first + 4)
        del together[first + 4]
        assert together == {first + i: ids for i, ids in expected.items() if i != 4}


def test_prefixes_stay_when_the_cache_is_full_of_other_prompts(core: EngineCore, weights: Weights) -> None:
    """Prompts that fill the cells many times over push each other out, and never a prefix."""
    prompt = prompt_of(20)
    before = run(core, [Submit(1, prompt, GREEDY, "long")])[1]
    info = core._runner.info
    others = [Submit(10 + i, prompt_of(180 + i), replace(GREEDY, max_tokens=2)) for i in range(16)]
    assert sum(len(request.prompt_ids) for request in others) > 1.5 * info.cache_cells
    run(core, others)
    assert run(core, [Submit(2, prompt, GREEDY, "long")])[2] == before
    assert core.stats.cells_used >= 16 + 128


def test_a_prefix_for_a_model_of_another_shape_is_refused(weights: Weights, tmp_path: Path) -> None:
    folder = write_prefix_folder(tmp_path / "tuned", tensors_of(4, projection=False), num_layers=SMALL.layers * 2,
                                 multi_query_group_num=1)  # fmt: skip
    convert_checkpoint(folder, tmp_path / "prefix.gguf", QuantType.F32)
    with pytest.raises(ModelLoadError, match="tuned for a model of another shape"):
        runner_with(converted(tmp_path / "hf", SMALL, weights), Adapter("tuned", prefix=tmp_path / "prefix.gguf"))


def test_prefixes_that_leave_no_slot_for_a_request_are_refused(weights: Weights, tmp_path: Path) -> None:
    model = converted(tmp_path / "hf", SMALL, weights)
    tuned = write_prefix_folder(tmp_path / "tuned", tensors_of(1, projection=False))
    convert_checkpoint(tuned, tmp_path / "prefix.gguf", QuantType.F32)
    adapter = Adapter("tuned", prefix=tmp_path / "prefix.gguf")
    slots = runner_with(model).slots
    runner_with(model, *(replace(adapter, name=str(n)) for n in range(slots - 1))).close()
    with pytest.raises(ModelLoadError, match=f"this model has {slots} slots"):
        runner_with(model, *(replace(adapter, name=str(n)) for n in range(slots)))


def test_a_prefix_that_contradicts_its_config_is_refused(tmp_path: Path) -> None:
    tensors = tensors_of(4, projection=False)
    folder = write_prefix_folder(tmp_path / "a", tensors, num_layers=4)
    with pytest.raises(TensorShapeError, match=rf"embedding\.weight has shape \[4, {WIDTH}\] .* requires \[4, 2048\]"):
        convert_checkpoint(folder, tmp_path / "p.gguf", QuantType.F32)
    projected = tensors_of(4, projection=True)
    projected[ROOT + "trans.0.weight"] = projected[ROOT + "trans.0.weight"][:, :-1]
    with pytest.raises(TensorShapeError, match=r"trans\.0\.weight has shape"):
        convert_checkpoint(write_prefix_folder(tmp_path / "b", projected), tmp_path / "p.gguf", QuantType.F32)
    del projected[ROOT + "trans.0.bias"]
    with pytest.raises(MissingTensorError, match=r"trans\.0\.bias"):
        convert_checkpoint(write_prefix_folder(tmp_path / "c", projected), tmp_path / "p.gguf", QuantType.F32)
    incomplete = write_prefix_folder(tmp_path / "d", tensors, prefix_projection=True)
    with pytest.raises(MissingTensorError, match=r"trans\.0\.weight"):
        convert_checkpoint(incomplete, tmp_path / "p.gguf", QuantType.F32)
    with pytest.raises(CorruptFileError, match="pre_seq_len is 5, and the prefix has 4 rows"):
        convert_checkpoint(write_prefix_folder(tmp_path / "e", tensors, pre_seq_len=5), tmp_path / "p", QuantType.F32)
    more = tensors | {ROOT + "trans.4.weight": tensors[ROOT + "embedding.weight"]}
    with pytest.raises(UnknownTensorError, match=r"trans\.4"):
        convert_checkpoint(
            write_prefix_folder(tmp_path / "f", more, prefix_projection=False), tmp_path / "p.gguf", QuantType.F32
        )
    assert not (tmp_path / "p.gguf").exists()


def test_the_command_names_a_prefix_after_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prefix_folder(tmp_path / "mine", tensors_of(16, projection=False))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(convert, ["mine"])
    assert "prefix: P-Tuning v2, 16 tokens" in result.output
    assert (tmp_path / "mine.prefix.gguf").exists()
    with pytest.raises(ConvertError, match="takes no --merge-lora"):
        convert_checkpoint(tmp_path / "mine", tmp_path / "x.gguf", QuantType.F32, merge_lora=tmp_path / "mine")
