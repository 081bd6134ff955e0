"""The settings that the processes of a cluster get: without Ray."""

from pathlib import Path

import pytest

from glmserve.cluster.deployed_settings import cluster_settings, deployment_names, without_keys
from glmserve.config.loader import load_settings
from glmserve.config.schema import Settings
from glmserve.config.values import Load


def settings(**values: object) -> Settings:
    return load_settings({"cache_dir": Path("cache"), **values}, environ={})


def test_paths_mean_the_same_whatever_folder_a_process_starts_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.gguf", "keys", "lora.gguf", "text.txt"):
        (tmp_path / name).touch()
    of = cluster_settings(
        settings(model="model.gguf", api_key_file="keys", lora="mine=lora.gguf", pin="text.txt", prompts="tasks")
    )
    model = of.models[0]
    assert (of.cache_dir, of.api_key_file, of.prompts) == (tmp_path / "cache", tmp_path / "keys", tmp_path / "tasks")
    assert (model.model, model.pin) == (str(tmp_path / "model.gguf"), (str(tmp_path / "text.txt"),))
    assert (model.variants[0].lora, model.variants[0].prefix) == (tmp_path / "lora.gguf", None)


def test_the_name_of_a_known_model_stays() -> None:
    assert cluster_settings(settings(model="chatglm2-6b")).models[0].model == "chatglm2-6b"
    assert cluster_settings(settings()).models[0].model == ""


def test_the_cluster_loads_and_unloads_and_not_the_first_request() -> None:
    model = cluster_settings(settings(load="first_use", idle_seconds=5)).models[0]
    assert (model.load, model.idle_seconds) == (Load.START, 0.0)


def test_what_one_process_alone_would_know_is_off_with_several() -> None:
    one, two = (cluster_settings(settings(api_replicas=count)) for count in (1, 2))
    assert (one.batch_store_mb, one.response_store_mb) == (2000.0, 64.0)
    assert (two.batch_store_mb, two.response_store_mb) == (0.0, 0.0)


def test_engines_get_no_keys() -> None:
    of = without_keys(settings(api_key="a:secret", api_key_file="keys"))
    assert not of.needs_key
    assert "secret" not in of.model_dump_json()


def test_each_deployment_has_a_name_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    tables = ("model = 'a/b.gguf'", "model = 'c/b.gguf'", "name = 'api'", "name = '模型#1'", "name = '智谱'")
    file.write_text("".join(f"[[models]]\n{table}\n" for table in tables))
    of = load_settings({"cache_dir": tmp_path}, environ={}, config_file=file)
    assert list(deployment_names(of)) == ["b.gguf", "b.gguf-2", "api-3", "1", "model"]
