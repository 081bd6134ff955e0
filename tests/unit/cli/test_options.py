import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from docs.generate.settings_page import settings_page
from glmserve.cli.cluster import cluster
from glmserve.cli.options import read_settings, settings_options
from glmserve.cli.serve import serve
from glmserve.config.loader import flag_name, variable_name
from glmserve.config.schema import OF_CLUSTER, OF_ONE_SERVER, OF_PULL, Settings
from tests.unit.cli.samples import SAMPLES


@click.command()
@click.argument("model", nargs=-1)
@settings_options
def show(model: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Print the settings as JSON."""
    click.echo(read_settings(model, config, flags).model_dump_json())


def call(*args: str, **environ: str) -> Result:
    return CliRunner().invoke(show, args, env=environ)


def settings_of(result: Result) -> Settings:
    assert result.exit_code == 0, result.output
    return Settings.model_validate_json(result.output)


def arguments(name: str) -> list[str]:
    if name == "model":
        return ["some.gguf"]
    value = SAMPLES[name].value
    if isinstance(value, bool):
        return [flag_name(name) if value else f"--no-{flag_name(name)[2:]}"]
    if isinstance(value, tuple):
        return [part for one in value for part in (flag_name(name), one)]
    return [flag_name(name), SAMPLES[name].text]


OF_SERVE = [name for name in SAMPLES if name not in (*OF_PULL, *OF_CLUSTER)]


@pytest.mark.parametrize("name", OF_SERVE)
def test_a_setting_is_read_from_the_command_line(name: str) -> None:
    assert getattr(settings_of(call(*arguments(name))), name) == SAMPLES[name].value


def test_a_cluster_has_its_settings_and_those_of_a_server_but_for_some() -> None:
    text = CliRunner().invoke(cluster, ["--help"]).output
    assert all(f"{flag_name(name)} " in text for name in OF_CLUSTER)
    named = {name for name in SAMPLES if re.search(rf"{flag_name(name)}[ /,]", text)}
    assert {name for name in OF_SERVE if name != "model"} - named == set(OF_ONE_SERVER)


def test_a_cluster_without_its_extra_says_what_to_install() -> None:
    result = CliRunner().invoke(cluster, ["--port", "0"])
    assert (result.exit_code, "pip install 'glmserve[ray]'" in result.output) == (2, True), result.output


def test_a_flag_wins_over_the_environment() -> None:
    assert settings_of(call("--no-access-log", "--port", "1", GLMSERVE_ACCESS_LOG="1", GLMSERVE_PORT="2")).port == 1
    assert not settings_of(call("--no-access-log", GLMSERVE_ACCESS_LOG="1")).access_log


def test_the_file_is_a_flag(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("port = 5")
    assert settings_of(call("--config", str(file))).port == 5


@pytest.mark.parametrize("name", [name for name in OF_SERVE if name != "model"])
def test_help_shows_each_setting_with_its_variable_and_default(name: str) -> None:
    text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    field = Settings.model_fields[name]
    assert flag_name(name) in text
    assert str(field.description).replace("\n", " ") in text
    assert f"[{variable_name(name)}" in text
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        assert f"[{variable_name(name)}; default: {field.default}]" in text


def test_a_bad_flag_is_a_usage_error_in_one_line() -> None:
    result = call("--port", "no")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: --port: Input should be a valid integer")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_settings_page_is_up_to_date(language: str) -> None:
    page = Path(__file__).parents[3] / "docs" / ("zh" if language == "zh" else "") / "settings.md"
    assert page.read_text("utf-8") == settings_page(language), "run make docs"
