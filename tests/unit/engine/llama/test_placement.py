"""What goes on which device, from figures alone."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from glmserve.engine.config import CACHE_BYTES_AUTO, Adapter, Device, EngineConfig, KvType
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts, RopeFacts
from glmserve.engine.llama.cpu_topology import Cores
from glmserve.engine.llama.placement import (
    GPU_RESERVE_BYTES,
    BuildFacts,
    DeviceFacts,
    auto_cells,
    fit_layers,
    place,
    probe,
)

MIB = 2**20
LAYER = 120 * MIB
SIX_B = ModelFacts(
    path=Path("chatglm2-6b.gguf"),
    name="chatglm2-6b",
    architecture="chatglm",
    prompt_format="chatglm2",
    context_train=32768,
    vocab_size=65024,
    size_bytes=28 * LAYER + 400 * MIB,
    layer_bytes=(LAYER,) * 28,
    other_bytes=400 * MIB,
    kv_heads=2,
    head_size=128,
    rope=RopeFacts(64, 10000.0, 1.0),
    kv_bytes_per_token=28672,
)
CPU_ONLY = BuildFacts(
    "0", "", gpu_offload=False, devices=(DeviceFacts("CPU", "a CPU", "cpu", 0, 0),), cores=Cores(8, 4)
)
CONFIG = EngineConfig(Path("chatglm2-6b.gguf"), context_length=8192, parallel=4, threads=2)


CUDA_WITHOUT_DRIVER = replace(CPU_ONLY, backends=("CUDA", "CPU"))
"""As llama.cpp answers where CUDA cannot be initialised: it has the backend, and no device of it."""


def _with_gpu(free_bytes: int) -> BuildFacts:
    gpu = DeviceFacts("CUDA0", "a GPU", "gpu", free_bytes, 80 * 2**30)
    return BuildFacts("0", "", gpu_offload=True, devices=(*CPU_ONLY.devices, gpu), cores=Cores(8, 4))


def test_without_a_gpu_auto_runs_on_the_cpu_and_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        placement = place(CONFIG, SIX_B, CPU_ONLY)
    assert (placement.gpu_layers, placement.in_words) == (0, "CPU, 2 threads")
    assert [record.getMessage() for record in caplog.records] == [
        "running on the CPU: this build of llama.cpp has no GPU support"
    ]


def test_a_cuda_build_on_a_machine_without_a_gpu_runs_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        placement = place(CONFIG, SIX_B, CUDA_WITHOUT_DRIVER)
    assert placement.gpu_layers == 0
    assert "running on the CPU: CUDA finds no GPU" in caplog.text


def test_where_cuda_is_demanded_the_build_and_the_driver_are_told_apart() -> None:
    with pytest.raises(ModelLoadError, match=r"this build of llama\.cpp has no GPU support"):
        place(replace(CONFIG, device=Device.CUDA), SIX_B, CPU_ONLY)
    with pytest.raises(ModelLoadError, match="its driver is missing or too old; use --device auto or cpu"):
        place(replace(CONFIG, device=Device.CUDA), SIX_B, CUDA_WITHOUT_DRIVER)


def test_with_room_enough_everything_goes_on_the_gpu() -> None:
    placement = place(CONFIG, SIX_B, _with_gpu(24 * 2**30))
    assert (placement.gpu_layers, placement.in_words) == (29, "a GPU")


def test_as_many_layers_as_fit_with_their_share_of_the_cache() -> None:
    kv = SIX_B.kv_bytes_per_token * 32768 // 28
    room = GPU_RESERVE_BYTES + SIX_B.other_bytes + 10 * (LAYER + kv)
    assert fit_layers(SIX_B, 32768, 28672, room) == 11
    assert fit_layers(SIX_B, 32768, 28672, room - 1) == 10
    assert place(CONFIG, SIX_B, _with_gpu(room)).in_words == "a GPU (11 of 29 layers) and CPU, 2 threads"


def test_a_gpu_without_room_for_one_layer_leaves_everything_to_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    assert place(CONFIG, SIX_B, _with_gpu(500 * MIB)).gpu_layers == 0
    assert "not one layer fits" in caplog.text


def test_device_cpu_leaves_a_gpu_alone() -> None:
    assert place(replace(CONFIG, device=Device.CPU), SIX_B, _with_gpu(24 * 2**30)).gpu_layers == 0


def test_device_cuda_without_one_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ModelLoadError, match="use --device auto or cpu"):
        place(replace(CONFIG, device=Device.CUDA), SIX_B, CPU_ONLY)


def test_a_number_of_layers_that_was_asked_for_is_taken() -> None:
    assert place(replace(CONFIG, gpu_layers=5), SIX_B, _with_gpu(24 * 2**30)).gpu_layers == 5
    assert place(replace(CONFIG, gpu_layers=99), SIX_B, _with_gpu(24 * 2**30)).gpu_layers == 29


def test_the_cache_holds_every_slots_context_within_its_bytes() -> None:
    assert auto_cells(4096, 8, 1024) == 8 * 4096
    assert auto_cells(8192, 64, 28672) == CACHE_BYTES_AUTO // 28672
    assert auto_cells(32768, 8, 10**6) == 32768


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (replace(CONFIG, context_length=40000), "trained for 32768"),
        (replace(CONFIG, cache_cells=8000), "smaller than one context of 8192"),
    ],
)
def test_a_context_that_cannot_be_is_refused_with_the_numbers(config: EngineConfig, says: str) -> None:
    with pytest.raises(ModelLoadError, match=says):
        place(config, SIX_B, CPU_ONLY)


def test_the_real_build_names_its_version_and_at_least_a_cpu() -> None:
    facts = probe()
    assert facts.version == "0.3.36"
    assert "cpu" in {device.kind for device in facts.devices}


def test_a_quantised_cache_takes_fewer_bytes_and_so_more_tokens_fit() -> None:
    wide = replace(CONFIG, parallel=64)
    for kind, per_token in ((KvType.F16, 28672), (KvType.Q8_0, 15232), (KvType.Q4_0, 8064)):
        placement = place(replace(wide, kv_type=kind), SIX_B, CPU_ONLY)
        assert placement.kv_bytes_per_token == per_token
        assert placement.cache_cells == min(64 * 8192, CACHE_BYTES_AUTO // per_token)


@pytest.mark.parametrize(
    ("config", "facts", "says"),
    [
        (CONFIG, replace(SIX_B, head_size=48), "needs heads of a multiple of 32 values; chatglm2-6b.gguf has 48"),
        (
            replace(CONFIG, adapters=(Adapter("adgen", prefix=Path("p.gguf")),)),
            SIX_B,
            "prefix of adgen needs --kv-type",
        ),
    ],
)
def test_a_quantised_cache_is_refused_where_it_cannot_work(config: EngineConfig, facts: ModelFacts, says: str) -> None:
    assert place(config, facts, CPU_ONLY).cache_cells
    with pytest.raises(ModelLoadError, match=says):
        place(replace(config, kv_type=KvType.Q8_0), facts, CPU_ONLY)


def test_threads_are_the_cores_and_which_generate_best_is_left_to_a_measurement() -> None:
    open_choice = replace(CONFIG, threads=0)
    placement = place(open_choice, SIX_B, CPU_ONLY)
    assert (placement.threads, placement.threads_batch, placement.threads_to_try) == (4, 4, (4, 3, 2, 8))
    assert placement.threads_batch_to_try == (4, 8)
    for decided in (
        place(CONFIG, SIX_B, CPU_ONLY),
        place(open_choice, replace(SIX_B, size_bytes=10 * MIB), CPU_ONLY),
        place(open_choice, SIX_B, replace(CPU_ONLY, cores=Cores(2, 2))),
        place(open_choice, SIX_B, _with_gpu(24 * 2**30)),
    ):
        assert decided.threads_to_try == decided.threads_batch_to_try == ()
    assert place(CONFIG, SIX_B, CPU_ONLY).threads_batch == 2


def test_threads_vary_only_where_nobody_asked_for_a_number_and_the_cpu_computes_it_all() -> None:
    open_choice = replace(CONFIG, threads=0)
    assert place(open_choice, SIX_B, CPU_ONLY).threads_vary
    assert not place(CONFIG, SIX_B, CPU_ONLY).threads_vary
    assert not place(open_choice, SIX_B, replace(CPU_ONLY, cores=Cores(2, 1))).threads_vary
    assert not place(open_choice, SIX_B, _with_gpu(24 * 2**30)).threads_vary
