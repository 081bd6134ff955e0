"""Several models in the settings: tables, arguments, what holds for all, and what is for one."""

from pathlib import Path

import pytest

from glmserve.bootstrap.engine_config import engine_config
from glmserve.config.loader import SettingsError, load_settings
from glmserve.config.schema import Load, ModelSettings, Settings
from glmserve.engine.config import Device, Variant
from tests.unit.bootstrap.test_build import assembled, plan

TWO = """
parallel = 4
device = "cpu"

[[models]]
model = "a.gguf"
name = "first"
parallel = 2

[[models]]
model = "b.gguf"
alias = ["b", "c"]
load = "first_use"
idle_seconds = 60
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return written(tmp_path, TWO)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "some.toml"
    file.write_text(text)
    return file


def refusal(file: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, environ or {}, file)
    return str(caught.value)


def paths(settings: Settings) -> list[str]:
    return [model.model for model in settings.models]


def test_a_table_is_completed_by_what_is_set_for_all(two: Path) -> None:
    first, second = load_settings({}, {}, two).models
    assert (first.model, first.name, first.parallel, first.device) == ("a.gguf", "first", 2, Device.CPU)
    assert (second.alias, second.parallel, second.load, second.idle_seconds) == (("b", "c"), 4, Load.FIRST_USE, 60)


def test_what_a_table_says_comes_before_flags_and_environment_which_come_before_the_file(two: Path) -> None:
    settings = load_settings({"parallel": "9"}, {"GLMSERVE_CONTEXT": "512"}, two)
    assert [(model.parallel, model.context) for model in settings.models] == [(2, 512), (9, 512)]


def test_arguments_are_models_in_their_order(tmp_path: Path) -> None:
    assert paths(load_settings({"model": ("x.gguf", "y,z.gguf")}, {})) == ["x.gguf", "y,z.gguf"]
    assert paths(load_settings({}, {"GLMSERVE_MODEL": "x.gguf, y.gguf"})) == ["x.gguf", "y.gguf"]
    assert paths(load_settings({}, {}, written(tmp_path, 'model = ["x.gguf", "y.gguf"]'))) == ["x.gguf", "y.gguf"]


def test_an_argument_chooses_a_table_by_its_name_or_by_what_it_serves(two: Path) -> None:
    settings = load_settings({"model": ("b.gguf", "first", "other.gguf")}, {}, two)
    assert [(model.model, model.parallel) for model in settings.models] == [
        ("b.gguf", 4),
        ("a.gguf", 2),
        ("other.gguf", 4),
    ]


def test_nothing_at_all_is_the_embedded_model() -> None:
    assert load_settings({}, {}).models == (ModelSettings(),)


def test_a_name_given_outside_is_that_of_the_only_model(tmp_path: Path) -> None:
    (model,) = load_settings({"model_name": "mine", "alias": ("a",), "model": ("x.gguf",)}, {}).models
    assert (model.name, model.alias) == ("mine", ("a",))


@pytest.mark.parametrize("flag", ["model_name", "alias", "lora", "prefix", "pin"])
def test_what_is_for_one_model_is_refused_for_several(flag: str, two: Path) -> None:
    value = "x=y" if flag == "model_name" else ("x=y",)
    message = refusal(two, **{flag: value})
    assert message == (
        f"--{flag.replace('_', '-')}: this setting is for a single model, and 2 are served; "
        "set it in their [[models]] tables"
    )


def test_variants_come_from_flags_and_from_tables_and_one_name_may_have_both_kinds(tmp_path: Path) -> None:
    file = written(tmp_path, '[[models]]\nmodel = "a"\n[[models.variants]]\nname = "t"\nprefix = "t.gguf"\n')
    flags = {"lora": ("x=l=1.gguf", "y=l.gguf"), "prefix": ("x=p.gguf", "some/where/z.gguf")}
    settings = load_settings(flags, {}, file)
    assert engine_config(plan(settings)).variants == (
        Variant("t", None, Path("t.gguf")),
        Variant("x", Path("l=1.gguf"), Path("p.gguf")),
        Variant("y", Path("l.gguf"), None),
        Variant("z", None, Path("some/where/z.gguf")),
    )


def test_a_variant_is_a_model_of_its_own_on_the_engine_of_its_parent() -> None:
    registry = assembled(load_settings({"prefix": ("tuned=p.gguf",), "model_name": "base"}, {})).registry
    base, tuned = registry.models
    assert (base.variant, tuned.variant, tuned.card.parent) == ("", "tuned", "base")
    assert (tuned.host, len(registry.hosts)) == (base.host, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[models]]\nparralel = 3", "models[0].parralel is not a setting of a model; did you mean {f}models[0].par"),
        ("[[models]]\n[[models]]\nport = 1", "models[1].port is not a setting of a model"),
        ("[[models]]\nparallel = 0", "models[0].parallel: Input should be greater than or equal to 1, not 0"),
        ("[[models]]\nload = 'soon'", "models[0].load: Input should be 'start' or 'first_use', not 'soon'"),
        ("[models]\nmodel = 'a'", "models: Input should be a valid tuple"),
        ("models = []\nmodels_ = 1", "models_ is not a setting"),
        ("[[models]]\n[[models.variants]]\nname='x'", "models[0].variants[0]: Value error, a variant needs lora"),
        ("[[models]]\n[[models.variants]]\nlora = 'x'", "models[0].variants[0].name: Field required"),
        ("[[models]]\n[[models.variants]]\nname='x'\nlroa = 'x'", "models[0].variants[0].lroa is not a setting of a"),
        ("lora = ['=x']", "lora: must be NAME=FILE with a name of its own, not '=x'"),
    ],
)  # fmt: skip
def test_a_bad_table_is_named_with_its_key(text: str, expected: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    first = refusal(file).splitlines()[0]
    assert first.startswith(f"{file}: {expected.format(f=f'{file}: ')}")


def test_a_bad_value_for_all_is_told_once(two: Path) -> None:
    assert refusal(two, context="x").count("\n") == 0


def test_the_same_variant_twice_is_refused() -> None:
    assert refusal(lora=("x=a", "x=b")) == "--lora: must be NAME=FILE with a name of its own, not 'x=b'"
