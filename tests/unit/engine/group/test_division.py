from pathlib import Path

import pytest

from glmserve.engine.config import Device, EngineConfig, parse_device
from glmserve.engine.group.division import count_engines, divide, split_processors
from glmserve.engine.llama.cpu_topology import Processor

CONFIG = EngineConfig(Path("m.gguf"), context_length=4096, parallel=9, max_waiting=64)


def processors(cores: int, threads: int = 1) -> list[Processor]:
    """Numbered as Linux does: the second threads of all cores after the first ones."""
    return [Processor(number, str(number % cores)) for number in range(cores * threads)]


def test_engines_get_whole_cores() -> None:
    assert split_processors(processors(4, threads=2), 2) == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert split_processors(processors(3), 2) == ((0,), (1, 2))


def test_engines_stay_on_their_numa_node() -> None:
    interleaved = [Processor(cpu, str(cpu), cpu % 2) for cpu in range(8)]
    assert split_processors(interleaved, 2) == ((0, 2, 4, 6), (1, 3, 5, 7))


def test_engines_share_the_cores_where_there_are_too_few() -> None:
    assert split_processors(processors(2, threads=2), 3) == ((), (), ())


def test_the_figures_of_a_model_are_divided() -> None:
    first, second = divide(CONFIG, 2, processors(2), ())
    assert (first.parallel, first.max_waiting, first.cpus, first.gpus) == (5, 32, (0,), ())
    assert second.cpus == (1,)


def test_a_cache_is_never_smaller_than_one_context() -> None:
    config = EngineConfig(Path("m.gguf"), context_length=4096, cache_cells=6000)
    assert {one.cache_cells for one in divide(config, 2, processors(2), ())} == {4096}


@pytest.mark.parametrize(
    ("count", "gpus", "expected"),
    [
        (2, (0, 1), [(0,), (1,)]),
        (2, (0, 1, 2, 3), [(0, 2), (1, 3)]),  # tensors are split over the cards of one engine
        (3, (5,), [(5,), (5,), (5,)]),
    ],
)
def test_engines_get_cards(count: int, gpus: tuple[int, ...], expected: list[tuple[int, ...]]) -> None:
    assert [one.gpus for one in divide(CONFIG, count, processors(4), gpus)] == expected


def test_a_model_on_the_cpu_uses_no_card() -> None:
    config = EngineConfig(Path("m.gguf"), device=Device.CPU)
    assert {one.gpus for one in divide(config, 2, processors(2), (0, 1))} == {()}


def test_one_engine_is_as_it_was() -> None:
    assert divide(CONFIG, 1, processors(2), (0,)) == (CONFIG,)


@pytest.mark.parametrize(
    ("engines", "device", "gpus", "count"),
    [
        ("3", Device.AUTO, (), 3),
        ("per-gpu", Device.AUTO, (0, 1), 2),
        ("per-gpu", Device.AUTO, (), 1),
        ("per-gpu", Device.CPU, (0, 1), 1),
    ],
)
def test_engines_are_counted(engines: str, device: Device, gpus: tuple[int, ...], count: int) -> None:
    assert count_engines(engines, device, gpus) == count


@pytest.mark.parametrize(
    ("device", "parsed"),
    [
        ("auto", (Device.AUTO, ())),
        ("cuda", (Device.CUDA, ())),
        ("cuda:1", (Device.CUDA, (1,))),
        ("cuda:2,cuda:0,cuda:2", (Device.CUDA, (2, 0))),
    ],
)
def test_a_device_names_cards(device: str, parsed: tuple[Device, tuple[int, ...]]) -> None:
    assert parse_device(device) == parsed


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cuda:0,cpu", "cpu:0", ""])
def test_any_other_device_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match="is no list of CUDA devices" if device.startswith("cuda:") else "Device"):
        parse_device(device)
