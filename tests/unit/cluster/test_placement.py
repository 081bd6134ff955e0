"""What a replica asks of a machine, and how many there are: pure, without Ray."""

from pathlib import Path

import pytest

from glmserve.cluster.placement import as_placed, place, scaling
from glmserve.config.loader import SettingsError, load_settings
from glmserve.config.schema import ModelSettings, Settings


def settings(**values: object) -> Settings:
    return (
        load_settings(values, environ={}, config_file=None)
        if "cache_dir" in values
        else settings(cache_dir=Path("/cache"), **values)
    )


def model(**values: object) -> ModelSettings:
    return settings(**values).models[0]


def test_a_replica_on_a_cpu_asks_for_its_threads_and_for_file_and_cache() -> None:
    placed = place(model(threads=6, cache_tokens=1000), 4 * 2**30, 1000, 8192)
    assert (placed.cpus, placed.gpus) == (6.0, 0.0)
    assert placed.memory_bytes == 4 * 2**30 + 1000 * 1000 + 512 * 2**20
    assert placed.actor_options == {"num_cpus": 6.0, "num_gpus": 0.0, "memory": placed.memory_bytes}


def test_the_cache_is_counted_in_the_type_that_it_has_and_up_to_its_own_bound() -> None:
    small = place(model(kv_type="q8_0", context=1024, parallel=2), 100, 32_000, 8192).memory_bytes
    assert small == 512 * 2**20 + 100 + 2 * 1024 * 32_000 * 34 // 64
    assert place(model(), 100, 10**6, 131_072).memory_bytes == 512 * 2**20 + 100 + 2 * 2**30


def test_the_cache_of_a_replica_on_a_gpu_is_not_in_the_memory_of_the_machine() -> None:
    placed = place(model(device="cuda"), 100, 10**6, 131_072)
    assert (placed.gpus, placed.memory_bytes) == (1.0, 512 * 2**20 + 100)


@pytest.mark.parametrize(
    ("given", "gpus"),
    [
        ({"device": "cpu"}, 0.0),
        ({"device": "auto"}, 0.0),
        ({"device": "cuda:0,cuda:1"}, 2.0),
        ({"device": "auto", "replica_gpus": 0.5}, 0.5),
    ],
)
def test_gpus_are_what_the_device_names_or_what_was_set(given: dict[str, object], gpus: float) -> None:
    assert place(model(**given), 0, 0, 0).gpus == gpus


def test_a_file_that_is_not_here_yet_asks_for_no_memory_unless_that_was_set() -> None:
    assert "memory" not in place(model(), 0, 0, 0).actor_options
    assert place(model(replica_memory_mb=8000), 0, 0, 0).memory_bytes == 8 * 10**9


def test_the_engine_uses_what_the_cluster_gives_it() -> None:
    placed = as_placed(model(device="cuda:2,cuda:3", replica_cpus=4))
    # Ray numbers the devices of a replica from 0.
    assert (placed.device, placed.threads, placed.threads_batch) == ("cuda", 4, 4)
    assert as_placed(model(replica_gpus=1)).device == "cuda"
    assert as_placed(model()).device == "cpu"
    assert as_placed(model(threads=3, replica_cpus=4)).threads == 3


def test_a_fixed_number_of_replicas_is_not_scaled() -> None:
    options = scaling(settings(), model(replicas="2", parallel=8, max_waiting=64)).options
    assert options == {"num_replicas": 2, "max_ongoing_requests": 72}


def test_one_replica_more_where_all_places_of_the_present_ones_are_taken() -> None:
    options = scaling(settings(scale_up_seconds=1, scale_down_seconds=60), model(replicas="1-4", parallel=16)).options
    scaled = options["autoscaling_config"]
    assert isinstance(scaled, dict)
    assert (scaled["min_replicas"], scaled["max_replicas"], scaled["target_ongoing_requests"]) == (1, 4, 16)
    assert (scaled["upscale_delay_s"], scaled["downscale_delay_s"]) == (1.0, 60.0)


@pytest.mark.parametrize("wrong", ["0", "3-2", "0-4", "many", "", "1-", "-2", "1.5"])
def test_a_number_of_replicas_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="--replicas"):
        settings(replicas=wrong)
