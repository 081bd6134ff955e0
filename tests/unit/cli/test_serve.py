import json
import logging
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from glmserve.__main__ import run
from glmserve.bootstrap.listener import AddressError, base_url, bind, is_public, lan_url
from glmserve.cli.banner import KEY_PLACEHOLDER, Access, Announced, ready_banner
from glmserve.cli.main import main
from glmserve.config.values import LogLevel
from glmserve.observability.logging import configure_logging
from tests.support.minimal_gguf import write_gguf


def call(*args: str, cache: Path) -> Result:
    return CliRunner().invoke(main, args, env={"GLMSERVE_CACHE_DIR": str(cache)})


def refused(result: Result, status: int) -> str:
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_reported_in_one_line(taken_port: int, tmp_path: Path) -> None:
    line = refused(call("serve", "--port", str(taken_port), cache=tmp_path), 1)
    assert line == (
        f"Error: cannot listen on 127.0.0.1 port {taken_port}: Address already in use; "
        "choose another with --port or --host\n"
    )


def test_an_address_of_another_machine_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1" in refused(call("serve", "--host", "192.0.2.1", cache=tmp_path), 1)


def test_an_unknown_name_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "cannot listen on no.invalid" in refused(call("serve", "--host", "no.invalid", cache=tmp_path), 1)


def test_a_missing_model_is_a_usage_error(tmp_path: Path) -> None:
    assert "missing.gguf: no such file" in refused(call("serve", "missing.gguf", "--port", "0", cache=tmp_path), 2)


def test_a_stored_prompt_that_cannot_be_used_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text('\ntemplat = "x"')
    line = refused(call("serve", "--prompts", str(tmp_path), "--port", "0", cache=tmp_path), 2)
    assert "some.toml:" in line


@pytest.mark.parametrize("source", ["checkpoint", "file"])
def test_a_faulty_key_is_told_before_anything_is_converted_or_loaded(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("a model was touched")

    monkeypatch.setattr("glmserve.cli.run_server.plan_models", touched)
    monkeypatch.setattr("glmserve.cli.run_server.build_registry", touched)
    (tmp_path / "keys").write_text("short\n", "utf-8")
    model = () if source == "checkpoint" else (str(write_gguf(tmp_path / "some.gguf", "llama")),)
    line = refused(call("serve", *model, "--api-key-file", str(tmp_path / "keys"), "--port", "0", cache=tmp_path), 2)
    assert "keys, line 1: a key has 8 to 256" in line


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"not a model" * 100)
    line = refused(call("serve", str(file), "--port", "0", cache=tmp_path), 2)
    assert file.name in line
    assert "not a readable GGUF file" in line


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "some.gguf", "t5")
    assert "architecture 't5' is not served here: its models do not write text token by token" in refused(
        call("serve", str(file), "--port", "0", cache=tmp_path), 2
    )


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    result = call("serve", str(tmp_path / "folder"), "--port", "0", cache=tmp_path)
    assert result.exit_code == 2
    assert "config.json is missing" in result.stderr


def test_the_file_of_an_adapter_must_be_there_and_converted(tmp_path: Path) -> None:
    gone, folder = tmp_path / "gone.gguf", tmp_path / "folder"
    folder.mkdir()
    assert f"{gone}: no such file; the adapter tuned needs it" in refused(
        call("serve", "--port", "0", "--prefix", f"tuned={gone}", cache=tmp_path), 2
    )
    assert f"glmserve convert {folder} -o FILE.gguf" in refused(
        call("serve", "--port", "0", "--lora", f"tuned={folder}", cache=tmp_path), 2
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("chatglm2-tiny", "chatglm2-tiny"), "two served models have the name 'chatglm2-tiny'"),
        (("--alias", "chatglm2-tiny"), "two served models have the name 'chatglm2-tiny'"),
        (("--default-model", "other"), "no served model has the name 'other'; served models: chatglm2-tiny"),
    ],
)
def test_names_are_checked_before_anything_is_converted(args: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert told in refused(call("serve", "--port", "0", *args, cache=tmp_path), 2)
    assert not any(tmp_path.iterdir())


def test_an_unknown_command_or_flag_is_a_usage_error(tmp_path: Path) -> None:
    assert call("server", cache=tmp_path).exit_code == 2
    assert call("serve", "--prot", "1", cache=tmp_path).exit_code == 2


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert call("--version", cache=tmp_path).output.startswith("glmserve, version ")


def test_help_lists_every_command(tmp_path: Path) -> None:
    text = call("--help", cache=tmp_path).output
    assert all(f"  {name}  " in text for name in ("serve", "convert", "pull", "list", "chat", "doctor"))


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_the_address_is_one_that_a_caller_can_use(host: str, shown: str) -> None:
    try:
        listener = bind(host, 0)
    except AddressError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert base_url(listener) == f"http://{shown}:{listener.getsockname()[1]}"


def test_the_banner_has_a_line_for_each_kind_of_caller() -> None:
    banner = ready_banner("http://h:1", [Announced("it's", "chatglm2", "CPU")])
    lines = [shlex.split(line) for line in banner.splitlines() if "  curl" in line]
    assert [next(part for part in line if part.startswith("http")) for line in lines] == [
        "http://h:1/v1/chat/completions", "http://h:1/v1/chat/completions", "http://h:1/chatglm",
    ]  # fmt: skip
    bodies = [json.loads(line[-1]) for line in lines]
    assert bodies[0] == {"model": "it's", "messages": [{"role": "user", "content": "你好"}]}
    assert bodies[1] == {**bodies[0], "stream": True}
    assert bodies[2] == {"prompt": "你好", "history": []}
    assert "In a browser:\n  http://h:1/\n" in banner


def test_the_banner_asks_each_kind_of_model_for_what_it_does() -> None:
    models = [Announced("a", "chatglm2", "CPU"), Announced("r", "", "CPU", ranks=True), Announced("v", "", "CPU")]
    lines = [shlex.split(line) for line in ready_banner("http://h:1", models).splitlines() if "  curl" in line]
    bodies = {next(part for part in line if part.startswith("http")): line[-1] for line in lines}
    assert json.loads(bodies["http://h:1/v1/embeddings"])["model"] == "v"
    assert json.loads(bodies["http://h:1/v1/rerank"]) == {"model": "r", "query": "你好", "documents": ["你好"]}


def test_the_banner_has_room_for_a_key_where_one_is_needed() -> None:
    banner = ready_banner("http://h:1", [Announced("a", "chatglm2", "CPU")], Access(needs_key=True))
    lines = [shlex.split(line) for line in banner.splitlines() if "  curl" in line]
    assert len(lines) == 3
    assert all(f"Authorization: Bearer {KEY_PLACEHOLDER}" in line for line in lines)
    assert "an api_key)" in banner
    assert KEY_PLACEHOLDER not in ready_banner("http://h:1", [Announced("a", "chatglm2", "CPU")])


def test_the_banner_says_how_other_machines_reach_it_and_that_all_may() -> None:
    models = [Announced("a", "chatglm2", "CPU")]
    said = ready_banner("http://h:1", models, Access(lan_url="http://10.0.0.5:1"))
    assert "Other machines reach it on http://10.0.0.5:1, for everybody who can reach it" in said
    said = ready_banner("http://h:1", models, Access(needs_key=True, lan_url="http://10.0.0.5:1"))
    assert "Other machines reach it on http://10.0.0.5:1\n" in said


@pytest.mark.parametrize(("host", "public"), [("127.0.0.1", False), ("0.0.0.0", True), ("127.0.0.2", False)])
def test_an_address_for_others_is_known_where_it_listens_on_all(host: str, public: bool) -> None:
    with bind(host, 0) as listener:
        assert is_public(listener) == public
        assert not lan_url(listener) or (public and lan_url(listener).endswith(f":{listener.getsockname()[1]}"))


def test_the_banner_names_no_page_where_there_is_none() -> None:
    assert "browser" not in ready_banner("http://h:1", [Announced("a", "chatglm2", "CPU")], page=False)


def test_the_banner_of_several_models_has_a_line_for_each_and_the_addresses_that_they_answer() -> None:
    banner = ready_banner("http://h:1", [Announced("a", "codegeex2", "is slow"), Announced("b", "baichuan", "is lazy")])
    assert "  a  is slow\n  b  is lazy\n" in banner
    assert "http://h:1/baichuan" in banner
    assert "http://h:1/chatglm" not in banner


@pytest.mark.parametrize(("level", "uvicorn_speaks"), [(LogLevel.INFO, False), (LogLevel.DEBUG, True)])
def test_the_log_level_is_the_settings(level: LogLevel, uvicorn_speaks: bool) -> None:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn.error")
    before, handlers, chatty = root.level, root.handlers[:], uvicorn.level
    root.handlers.clear()
    uvicorn.setLevel(logging.NOTSET)
    try:
        configure_logging(level)
        assert logging.getLevelName(root.level) == level.value.upper()
        assert uvicorn.isEnabledFor(logging.INFO) == uvicorn_speaks
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
        uvicorn.setLevel(chatty)


def _commands(of: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(of, click.Group):
        for name in of.list_commands(click.Context(of)):
            command = of.get_command(click.Context(of), name)
            assert command is not None, name
            yield from _commands(command, *words, name)


@pytest.mark.parametrize("words", list(_commands(main)), ids=" ".join)
def test_no_help_shows_how_it_is_laid_out(words: tuple[str, ...], tmp_path: Path) -> None:
    """A raw docstring kept click's mark of a verbatim paragraph as two characters, and the lines were run together."""
    text = call(*words, "--help", cache=tmp_path).output
    assert text.startswith("Usage:")
    assert "\\b" not in text
    assert "\b" not in text


def test_examples_in_a_help_text_have_a_line_each(tmp_path: Path) -> None:
    assert "\n  glmserve task news - < item.txt\n" in call("task", "--help", cache=tmp_path).output


def test_ctrl_c_while_the_code_is_read_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "glmserve.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "glmserve.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130
