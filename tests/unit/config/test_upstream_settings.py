"""Settings of a model that another server runs: what is accepted, and where its key is read."""

from pathlib import Path

import pytest

from glmserve.bootstrap.build import build_registry
from glmserve.bootstrap.plans import AssemblyError, check_names
from glmserve.config.loader import SettingsError, load_settings, upstream_key
from glmserve.config.schema import Settings
from glmserve.model_pool.upstream_model import UpstreamModel

URL = "http://10.0.0.7:8000/v1"


def loaded(folder: Path, text: str, **flags: object) -> Settings:
    file = folder / "glmserve.toml"
    file.write_text(text, "utf-8")
    return load_settings(flags, {"HOME": str(folder)}, file)


def table(*lines: str) -> str:
    return "\n".join(("[[models]]", f'upstream = "{URL}/"', *lines))


def test_a_server_may_have_nothing_but_upstreams(tmp_path: Path) -> None:
    settings = loaded(tmp_path, table('name = "big"', 'upstream_model = "zai-org/GLM-4.5"', 'alias = ["gpt-4o"]'))
    assert not settings.local_models
    check_names(settings, [])
    registry = build_registry(settings, [])
    model = registry.get("gpt-4o")
    assert isinstance(model, UpstreamModel)
    assert (model.upstream.place.url, model.upstream.place.model, model.card.name) == (URL, "zai-org/GLM-4.5", "big")


@pytest.mark.parametrize("asked", ["big", "zai-org/GLM-4.5"])
def test_the_argument_model_chooses_its_table(tmp_path: Path, asked: str) -> None:
    other = '[[models]]\nmodel = "x.gguf"\n'
    text = other + table('name = "big"', 'upstream_model = "zai-org/GLM-4.5"')
    assert [model.public_name for model in loaded(tmp_path, text, model=(asked,)).models] == ["big"]


def test_its_name_is_the_upstreams_unless_set(tmp_path: Path) -> None:
    (model,) = loaded(tmp_path, table('upstream_model = "glm"')).models
    assert model.public_name == "glm"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (table(), "needs a name or upstream_model"),
        (table('name = "a"', 'model = "x.gguf"'), "has no model"),
        (table('name = "a"', 'pin = ["x"]'), "has no pin"),
        (table('name = "a"', 'upstream_key_file = "k"', 'upstream_key_env = "K"'), "exclude each other"),
        ('[[models]]\nname = "a"\nupstream_key_env = "K"\n', "needs upstream"),
        *(
            (f'[[models]]\nname = "a"\nupstream = "{url}"\n', "must be http://HOST")
            for url in ("10.0.0.7:8000", "ftp://x/v1", "http://user:secret@x/v1", "http://x/v1?key=s", "file:///etc")
        ),
    ],
)
def test_tables_that_contradict_themselves(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        loaded(tmp_path, text)


def test_a_name_that_two_models_have(tmp_path: Path) -> None:
    settings = loaded(tmp_path, table('name = "a"') + "\n" + table('name = "b"', 'alias = ["a"]'))
    with pytest.raises(AssemblyError, match="two served models have the name 'a'"):
        check_names(settings, [])


def test_a_key_of_a_file_or_a_variable(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("  sk-secret \nmore\n")
    (model,) = loaded(tmp_path, table('name = "a"', f'upstream_key_file = "{key}"')).models
    assert upstream_key(model) == "sk-secret"
    (model,) = loaded(tmp_path, table('name = "a"', 'upstream_key_env = "BIG"')).models
    assert upstream_key(model, {"BIG": "sk-other"}) == "sk-other"
    (model,) = loaded(tmp_path, table('name = "a"')).models
    assert upstream_key(model, {}) == ""


@pytest.mark.parametrize("value", ["", " ", "a b", "ключ", "a\nb"])
def test_a_key_that_no_header_can_carry(tmp_path: Path, value: str) -> None:
    (model,) = loaded(tmp_path, table('name = "a"', 'upstream_key_env = "BIG"')).models
    with pytest.raises(SettingsError, match="the variable BIG") as caught:
        upstream_key(model, {"BIG": value})
    assert not value.strip() or value not in str(caught.value)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    settings = loaded(tmp_path, table('name = "a"', 'upstream_key_file = "/nowhere/key"'))
    with pytest.raises(AssemblyError, match="/nowhere/key: cannot be read"):
        build_registry(settings, [])


def test_the_key_is_in_no_text_of_the_objects(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret-of-upstream")
    model = build_registry(loaded(tmp_path, table('name = "a"', f'upstream_key_file = "{key}"')), []).get(None)
    assert model.upstream is not None
    assert "sk-secret" not in repr(model.upstream.place)
