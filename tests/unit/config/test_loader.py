"""Settings: their sources, their order and checks, and the distribution of settings to models."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glmserve.bootstrap.engine_config import engine_config
from glmserve.config.loader import SettingsError, flag_name, load_settings, variable_name
from glmserve.config.schema import FLAGS, ModelSettings, Settings
from glmserve.config.values import MUST_SAY_SOMETHING, Load
from glmserve.engine.config import Adapter, Device
from glmserve.model_pool.served_model import ServedModel
from tests.unit.bootstrap.test_build import assembled, plan
from tests.unit.cli.samples import SAMPLES


def test_every_setting_has_a_sample() -> None:
    assert set(SAMPLES) == set(FLAGS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_setting_is_read_from_the_environment(name: str) -> None:
    settings = load_settings({}, {variable_name(name): SAMPLES[name].text})
    assert getattr(settings, name) == SAMPLES[name].value


@pytest.mark.parametrize("name", SAMPLES)
def test_a_setting_is_read_from_the_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text(f"{name} = {SAMPLES[name].toml}\n")
    assert getattr(load_settings({}, {}, file), name) == SAMPLES[name].value


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_differs_from_the_default(name: str) -> None:
    assert getattr(load_settings({}, {}), name) != SAMPLES[name].value


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("port = 1\nparallel = 1\ncontext = 1\n")
    environ = {"GLMSERVE_PORT": "2", "GLMSERVE_PARALLEL": "2"}
    settings = load_settings({"port": "3"}, environ, file)
    assert (settings.port, settings.parallel, settings.context) == (3, 2, 1)


def test_the_file_is_named_by_the_environment_unless_a_flag_names_one(tmp_path: Path) -> None:
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("port = 1")
    other.write_text("port = 2")
    environ = {"GLMSERVE_CONFIG": str(named)}
    assert load_settings({}, environ).port == 1
    assert load_settings({}, environ, other).port == 2


def test_a_file_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glmserve.toml").write_text("port = 4")
    assert load_settings({}, {}).port == 4


@pytest.mark.parametrize("name", sorted(MUST_SAY_SOMETHING))
@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_a_setting_of_who_may_call_is_not_given_empty(name: str, value: str, tmp_path: Path) -> None:
    """`--api-key ""`, from a shell variable that was never set, started a server for everybody."""
    file = tmp_path / "some.toml"
    file.write_text(f"{name} = {json.dumps(value)}\n")
    sources: tuple[tuple[str, Callable[[], Settings]], ...] = (
        (flag_name(name), lambda: load_settings({name: (value,) if name != "api_key_file" else value}, {})),
        (variable_name(name), lambda: load_settings({}, {variable_name(name): value})),
        (f"{file}: {name}", lambda: load_settings({}, {}, file)),
    )
    for spelt, load in sources:
        with pytest.raises(SettingsError) as caught:
            load()
        assert str(caught.value) == f"{spelt}: it is set, but empty; give it a value, or leave it out"


def test_an_empty_flag_does_not_fall_back_to_what_another_source_says() -> None:
    with pytest.raises(SettingsError, match="--api-key: it is set, but empty"):
        load_settings({"api_key": ("",)}, {"GLMSERVE_API_KEY": "secret-of-ann"})


def test_an_empty_list_of_keys_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("api_key = []\n")
    with pytest.raises(SettingsError, match="api_key: it is set, but empty"):
        load_settings({}, {}, file)


@pytest.mark.parametrize("value", ["example.com", "https://", "http://a/b", "http://a b", "all"])
def test_an_origin_that_no_browser_sends_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="--cors-origin: must be SCHEME://HOST"):
        load_settings({"cors_origin": (value,)}, {})


def test_origins_and_hosts_are_read_as_browsers_write_them() -> None:
    found = load_settings({"cors_origin": ("HTTPS://A.example/", "local"), "allowed_host": ("A.example.", "[::1]")}, {})
    assert (found.cors_origin, found.allowed_host) == (("https://a.example", "local"), ("a.example", "::1"))


@pytest.mark.parametrize("value", ["http://a", "a:80", "a b", "a/b", "-a"])
def test_a_host_with_more_than_a_name_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="--allowed-host: must be a host name"):
        load_settings({"allowed_host": (value,)}, {})


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({}, {"GLMSERVE_PORT": ""}).port == 8000


def test_other_programs_variables_are_left_alone() -> None:
    assert load_settings({}, {"PORT": "1", "GLM_PORT": "2"}).port == 8000


def test_converted_models_lie_in_the_users_cache(tmp_path: Path) -> None:
    assert load_settings({}, {"XDG_CACHE_HOME": str(tmp_path)}).cache_dir == tmp_path / "glmserve"
    assert load_settings({}, {}).cache_dir == Path.home() / ".cache" / "glmserve"
    # The base directory specification has relative paths ignored.
    assert load_settings({}, {"XDG_CACHE_HOME": "here"}).cache_dir == Path.home() / ".cache" / "glmserve"


def test_a_user_without_a_home_must_name_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert load_settings({"cache_dir": "/there"}, {}).cache_dir == Path("/there")
    with pytest.raises(SettingsError, match="--cache-dir"):
        load_settings({}, {})


@pytest.mark.parametrize("service", ["GLMSERVE", "GLMSERVE_EPP"])
def test_what_kubernetes_tells_of_a_service_is_no_setting(service: str) -> None:
    """A pod beside a service named glmserve got GLMSERVE_PORT=tcp://10.96.0.7:8000, and did not start."""
    environ = {
        f"{service}_SERVICE_HOST": "10.96.0.7",
        f"{service}_SERVICE_PORT": "8000",
        f"{service}_SERVICE_PORT_HTTP": "8000",
        f"{service}_PORT": "tcp://10.96.0.7:8000",
        f"{service}_PORT_8000_TCP": "tcp://10.96.0.7:8000",
        f"{service}_PORT_8000_TCP_PROTO": "tcp",
        f"{service}_PORT_8000_TCP_PORT": "8000",
        f"{service}_PORT_8000_TCP_ADDR": "10.96.0.7",
    }
    assert load_settings({}, environ).port == load_settings({}, {}).port
    with pytest.raises(SettingsError, match="GLMSERVE_PORT: Input should be a valid integer"):
        load_settings({}, {"GLMSERVE_PORT": "http://10.96.0.7:8000"})


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({"port": "70000"}, {}, "--port: Input should be less than or equal to 65535, not '70000'"),
        ({}, {"GLMSERVE_PARALLEL": "many"}, "GLMSERVE_PARALLEL: Input should be a valid integer"),
        ({}, {"GLMSERVE_PROT": "1"}, "GLMSERVE_PROT is not a setting; did you mean GLMSERVE_PORT?"),
        ({}, {"GLMSERVE_ZZZ": "1"}, "GLMSERVE_ZZZ is not a setting"),
        ({"step_seconds": "nan"}, {}, "--step-seconds: Input should be"),
        ({"device": "tpu"}, {}, "--device: Input should be auto, cpu, cuda, or CUDA devices such as cuda:0,cuda:1"),
    ],
)
def test_a_bad_setting_is_named_as_it_was_written(
    flags: dict[str, object], environ: dict[str, str], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, environ)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parralel = 3", "{file}: parralel is not a setting; did you mean {file}: parallel?"),
        ("port = 'x'", "{file}: port: Input should be a valid integer"),
        ("port = ", "{file}: not a TOML file"),
        ("[server]\nport = 1", "{file}: server is not a setting"),
    ],
)
def test_a_bad_file_is_named_with_its_key(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, file)
    assert str(caught.value).startswith(expected.format(file=file))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    file = tmp_path / "some.toml"
    file.write_text("port = 1234\n", "utf-8-sig")
    assert load_settings({}, {}, file).port == 1234


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml: cannot be read \(No such file or directory\)"):
        load_settings({}, {}, tmp_path / "no.toml")


def test_every_bad_setting_gets_a_line() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"port": "-1"}, {"GLMSERVE_THREADS": "-1"})
    assert sorted(line.partition(":")[0] for line in str(caught.value).splitlines()) == ["--port", "GLMSERVE_THREADS"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}, {}).port = 1


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


def refusal(file: Path | None = None, environ: dict[str, str] | None = None, /, **flags: object) -> str:
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
    assert load_settings({}, {}).models == (ModelSettings.model_validate({}),)


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


def test_adapters_come_from_flags_and_from_tables_and_one_name_may_have_both_kinds(tmp_path: Path) -> None:
    file = written(tmp_path, '[[models]]\nmodel = "a"\n[[models.variants]]\nname = "t"\nprefix = "t.gguf"\n')
    flags = {"lora": ("x=l=1.gguf", "y=l.gguf"), "prefix": ("x=p.gguf", "some/where/z.gguf")}
    settings = load_settings(flags, {}, file)
    assert engine_config(plan(settings)).adapters == (
        Adapter("t", None, Path("t.gguf")),
        Adapter("x", Path("l=1.gguf"), Path("p.gguf")),
        Adapter("y", Path("l.gguf"), None),
        Adapter("z", None, Path("some/where/z.gguf")),
    )


def test_an_adapter_is_a_model_of_its_own_on_the_engine_of_its_parent() -> None:
    registry = assembled(load_settings({"prefix": ("tuned=p.gguf",), "model_name": "base"}, {}))
    base, tuned = registry.models
    assert isinstance(base, ServedModel)
    assert isinstance(tuned, ServedModel)
    assert (base.adapter, tuned.adapter, tuned.card.parent) == ("", "tuned", "base")
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
        ("[[models]]\n[[models.variants]]\nname='x'", "models[0].variants[0]: Value error, an adapter needs lora"),
        ("[[models]]\n[[models.variants]]\nlora = 'x'", "models[0].variants[0].name: Field required"),
        ("[[models]]\n[[models.variants]]\nname='x'\nlroa = 'x'", "models[0].variants[0].lroa is not a setting of a"),
        ("lora = ['=x']", "lora: must be NAME=FILE with a name of its own, not '=x'"),
    ],
)  # fmt: skip
def test_a_bad_table_is_named_with_its_key(text: str, expected: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    first = refusal(file).splitlines()[0]
    assert first.startswith(f"{file}: {expected.format(f=f'{file}: ')}")


def test_a_bad_value_for_all_is_reported_once(two: Path) -> None:
    assert refusal(two, context="x").count("\n") == 0


def test_the_same_adapter_twice_is_refused() -> None:
    assert refusal(lora=("x=a", "x=b")) == "--lora: must be NAME=FILE with a name of its own, not 'x=b'"
