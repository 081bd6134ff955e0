import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glmserve.config.access import MUST_SAY_SOMETHING
from glmserve.config.loader import SettingsError, flag_name, load_settings, variable_name
from glmserve.config.schema import FLAGS, Settings
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


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({"port": "70000"}, {}, "--port: Input should be less than or equal to 65535, not '70000'"),
        ({}, {"GLMSERVE_PARALLEL": "many"}, "GLMSERVE_PARALLEL: Input should be a valid integer"),
        ({}, {"GLMSERVE_PROT": "1"}, "GLMSERVE_PROT is not a setting; did you mean GLMSERVE_PORT?"),
        ({}, {"GLMSERVE_ZZZ": "1"}, "GLMSERVE_ZZZ is not a setting"),
        ({"step_seconds": "nan"}, {}, "--step-seconds: Input should be"),
        ({"device": "tpu"}, {}, "--device: Input should be 'auto', 'cpu' or 'cuda'"),
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
        load_settings({}, {}).port = 1  # type: ignore[misc]
