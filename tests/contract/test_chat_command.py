"""``glmserve chat`` against the application on a scripted engine."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from glmserve.bootstrap.app import ApiOptions
from glmserve.cli.main import main
from glmserve.engine.errors import EngineDied, QueueFull
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serve(make_app(engine)) as address:
        yield address


def chat(url: str, text: str) -> Result:
    return CliRunner().invoke(main, ["chat", "--url", url], input=text)


def test_each_line_is_answered(url: str) -> None:
    result = chat(url, "你好\nhello\n")
    assert result.output == "你问的是：你好\n你问的是：hello\n"
    assert result.exit_code == 0


def test_the_history_goes_along(url: str, engine: ScriptedEngine) -> None:
    chat(url, "一\n二\n")
    assert engine.submissions[-1].prompt.startswith("[Round 1]\n\n问：一\n\n答：你问的是：一\n\n[Round 2]")


def test_the_address_may_end_in_v1(url: str) -> None:
    assert chat(f"{url}/v1", "hi\n").exit_code == 0


def test_a_refusal_is_reported_in_the_servers_words(url: str, engine: ScriptedEngine) -> None:
    engine.reject = QueueFull(64)
    result = chat(url, "hi\n")
    assert result.exit_code == 1
    assert "the queue is full, with 64 requests waiting" in result.stderr
    assert "(HTTP 429)" in result.stderr


def test_an_answer_that_breaks_off_is_an_error(url: str, engine: ScriptedEngine) -> None:
    engine.fail = EngineDied("the engine process ended")
    result = chat(url, "hi\n")
    assert result.exit_code == 1
    assert "Error: the engine process ended" in result.stderr


def test_no_server_is_reported_in_one_line(url: str) -> None:
    result = chat("http://127.0.0.1:9", "hi\n")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "no server answers at http://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize("args", [["--url", "http://h", "some.gguf"], ["--threads", "2"]])
def test_contradictory_arguments_are_a_usage_error(args: list[str]) -> None:
    assert CliRunner().invoke(main, ["chat", *args]).exit_code == 2


def test_a_server_with_keys_is_asked_with_the_one_that_is_given(engine: ScriptedEngine) -> None:
    keys = ApiKeyStore(parse_keys(("ann:secret-of-ann",), Limits(), "test"))
    with serve(make_app(engine, ApiOptions(keys=keys))) as address:
        runner = CliRunner()
        refused = runner.invoke(main, ["chat", "--url", address], input="hi\n", env={"GLMSERVE_API_KEY": None})
        assert refused.exit_code == 1
        assert "--api-key or GLMSERVE_API_KEY gives it one" in refused.stderr
        for key in ("secret-of-ann", "ann:secret-of-ann"):
            arguments = ["chat", "--url", address, "--api-key", key]
            assert runner.invoke(main, arguments, input="hi\n").output == "你问的是：hi\n"
        arguments = ["bench", "--url", address, "--workload", "single", "--max-tokens", "2", "--json"]
        bench = runner.invoke(main, arguments, env={"GLMSERVE_API_KEY": "secret-of-ann"})
        assert json.loads(bench.stdout)[0]["workload"] == "single"
        assert runner.invoke(main, arguments, env={"GLMSERVE_API_KEY": "another-one"}).exit_code == 1


@pytest.mark.parametrize(("workload", "rounds"), [("single", {"[Round 1]"}), ("turns", {"[Round 1]", "[Round 5]"})])
def test_the_benchmark_asks_with_its_history_where_chats_are_measured(
    url: str, engine: ScriptedEngine, workload: str, rounds: set[str]
) -> None:
    arguments = ["bench", "--url", url, "--workload", workload, "--max-tokens", "2", "--json"]
    report = json.loads(CliRunner().invoke(main, arguments).stdout)[0]
    assert report["requests"] == len(engine.submissions)
    last = engine.submissions[-1].prompt
    assert {f"[Round {number}]" for number in (1, 5) if f"[Round {number}]" in last} == rounds
