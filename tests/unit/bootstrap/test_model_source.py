import os
from pathlib import Path

import pytest

from glmserve.bootstrap.model_source import ModelSource, UnknownModelError, convert_source, find_source
from glmserve.config.values import Quant
from glmserve.convert import pipeline
from glmserve.convert.quantize.recipes import QuantType
from glmserve.models.catalog import EMBEDDED


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def find(model: object, cache: Path, quant: Quant = Quant.AUTO) -> ModelSource:
    return find_source(str(model), quant, cache)


def test_nothing_and_its_name_are_the_embedded_model(tmp_path: Path) -> None:
    source = find("", tmp_path)
    assert source == find(EMBEDDED.name, tmp_path)
    assert (source.name, source.entry, source.quant) == (EMBEDDED.name, EMBEDDED, QuantType.Q8_0)
    assert source.checkpoint is not None
    assert (source.checkpoint / "config.json").is_file()


def test_a_file_is_served_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF")
    assert find(file, tmp_path) == ModelSource("some", file)
    assert not find(file, tmp_path).needs_conversion


def test_a_file_that_convert_named_is_called_by_its_model_and_known_by_it(tmp_path: Path) -> None:
    file = tmp_path / "ChatGLM2-6B.q4_k_m.gguf"
    file.write_bytes(b"GGUF")
    source = find(file, tmp_path)
    assert (source.name, source.entry and source.entry.name) == ("ChatGLM2-6B", "chatglm2-6b")
    other = file.rename(tmp_path / "model.v1.5.gguf")
    assert find(other, tmp_path).name == "model.v1.5"


def test_a_folder_is_converted_into_the_cache(checkpoint: Path, tmp_path: Path) -> None:
    source = find(checkpoint, tmp_path / "cache")
    assert (source.name, source.checkpoint, source.quant) == ("my-model", checkpoint, QuantType.Q4_K_M)
    assert source.gguf.parent == tmp_path / "cache" / "converted"
    assert source.needs_conversion


def test_the_same_folder_is_not_converted_twice(checkpoint: Path, tmp_path: Path) -> None:
    first = find(checkpoint, tmp_path)
    first.gguf.parent.mkdir()
    first.gguf.write_bytes(b"GGUF")
    assert not find(checkpoint, tmp_path).needs_conversion
    assert not find(f"{checkpoint}/../my-model", tmp_path).needs_conversion


def test_changed_weights_another_type_or_another_folder_are_another_file(checkpoint: Path, tmp_path: Path) -> None:
    before = find(checkpoint, tmp_path)
    other_type = find(checkpoint, tmp_path, Quant.Q4_0)
    os.utime(checkpoint / "model.safetensors", (1, 1))
    changed = find(checkpoint, tmp_path)
    moved = find(checkpoint.rename(tmp_path / "x"), tmp_path)
    assert len({before.gguf, other_type.gguf, changed.gguf, moved.gguf}) == 4


def test_a_new_conversion_replaces_the_old_one_of_its_folder_and_type(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "convert_checkpoint", lambda _s, out, *_: out.write_bytes(b"GGUF"))
    old, kept = find(checkpoint, tmp_path), find(checkpoint, tmp_path, Quant.Q4_0)
    convert_source(old)
    convert_source(kept)
    os.utime(checkpoint / "config.json", (1, 1))
    new = find(checkpoint, tmp_path)
    convert_source(new)
    assert (old.gguf.exists(), kept.gguf.exists(), new.gguf.exists()) == (False, True, True)


def test_a_known_name_is_looked_for_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"chatglm2-6b is not on this machine; glmserve pull chatglm2-6b"):
        find("chatglm2-6b", tmp_path)
    (tmp_path / "chatglm2-6b.gguf").write_bytes(b"GGUF")
    found = find("THUDM/chatglm2-6b", tmp_path)
    assert (found.name, found.gguf) == ("chatglm2-6b", tmp_path / "chatglm2-6b.gguf")
    assert found.entry is not None


def test_a_pulled_model_is_found_by_its_type_and_in_the_usual_one_unless_requested(tmp_path: Path) -> None:
    for kind in ("f16", "q4_0", "q4_k_m"):
        (tmp_path / f"mine.{kind}.gguf").write_bytes(b"GGUF")
    assert find("mine", tmp_path).gguf.name == "mine.q4_k_m.gguf"
    assert find("mine", tmp_path, Quant.F16).gguf.name == "mine.f16.gguf"
    (tmp_path / "mine.q4_k_m.gguf").unlink()
    assert find("mine", tmp_path).gguf.name == "mine.f16.gguf"
    with pytest.raises(UnknownModelError):
        find("mine", tmp_path, Quant.Q8_0)


def test_another_models_file_is_not_taken_for_it(tmp_path: Path) -> None:
    for other in ("chatglm2-6bx.gguf", "chatglm2-6b-32k.q4_k_m.gguf", "chatglm2-6b-int4.gguf"):
        (tmp_path / other).write_bytes(b"GGUF")
    with pytest.raises(UnknownModelError):
        find("chatglm2-6b", tmp_path)


def test_anything_else_is_an_error_that_says_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"^missing\.gguf: no such file or folder.*give a \.gguf file"):
        find("missing.gguf", tmp_path)


def test_what_convert_wrote_here_is_found_by_the_name_without_its_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first page of the documentation does it: convert -o chatglm2-6b.gguf, then serve chatglm2-6b."""
    monkeypatch.chdir(tmp_path)
    for file in ("chatglm2-6b.gguf", "mine.gguf", "other.q8_0.gguf"):
        (tmp_path / file).write_bytes(b"GGUF")
    cache = tmp_path / "cache"
    assert find("chatglm2-6b", cache) == find("chatglm2-6b.gguf", cache)
    for name, file in (("mine", "mine.gguf"), ("./mine", "mine.gguf"), (tmp_path / "mine", "mine.gguf"),
                       ("other", "other.q8_0.gguf")):  # fmt: skip
        source = find(name, cache)
        assert (source.name, source.gguf.name) == (Path(str(name)).name, file)


def test_a_folder_with_one_file_is_that_file_and_several_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.q4_0.gguf").write_bytes(b"GGUF")
    assert find(tmp_path, tmp_path / "cache") == ModelSource("a", tmp_path / "a.q4_0.gguf")
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnknownModelError, match=r"2 GGUF files; name one of them: a.q4_0.gguf, b.gguf"):
        find(tmp_path, tmp_path / "cache")


def test_a_snapshot_of_the_hub_is_called_by_its_repository(checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--THUDM--chatglm3-6b"
    (repository / "snapshots").mkdir(parents=True)
    snapshot = checkpoint.rename(repository / "snapshots" / "0f1c9a")
    for folder in (repository, snapshot):
        source = find(folder, tmp_path / "cache")
        assert (source.name, source.checkpoint) == ("chatglm3-6b", snapshot)
        assert source.entry is not None


@pytest.mark.parametrize("name", ["chatglm-6b", "THUDM/ChatGLM-6B", "chatglm-6b-int4"])
def test_the_first_generation_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"first generation.*chatglm2-6b"):
        find(name, tmp_path)
