"""How a line of the log is written, and what is kept out of it."""

import json
import logging
import sys
from types import MappingProxyType

import pytest

from glmserve.engine.child_process import LogPipe, about, log_record
from glmserve.engine.messages import Logged
from glmserve.http.request_record import RequestRecord, enter_request
from glmserve.observability.logging import JsonFormatter, RequestIdFilter, TextFormatter

SECRET = "我的密码是甲乙丙"


def failed(message: str = "it %s", *args: object, nested: bool = False) -> logging.LogRecord:
    """A record with the traceback of an error that quotes what somebody wrote."""
    try:
        try:
            raise ValueError(f"cannot read {SECRET}")
        except ValueError as error:
            if not nested:
                raise
            raise RuntimeError(f"no use for {SECRET}") from error
    except Exception:
        return made(message, *(args or ("failed",)), exc_info=sys.exc_info())


def made(message: str, *args: object, **more: object) -> logging.LogRecord:
    parts = {"msg": message, "args": args, "levelname": "INFO", "name": "server.test", "request_id": "-", **more}
    return logging.makeLogRecord({"created": 1_700_000_000.25, "msecs": 250.0, **parts})


def test_a_json_line_is_one_object_with_what_is_known_of_the_event() -> None:
    record = made("two\nlines of %s", "你", request_id="r1", fields=MappingProxyType({"status": 200, "path": "/x"}))
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "info", "logger": "server.test",
        "message": "two\nlines of 你", "request_id": "r1", "status": 200, "path": "/x",
    }  # fmt: skip


def test_what_is_about_no_request_has_no_id() -> None:
    assert "request_id" not in json.loads(JsonFormatter().format(made("x")))


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
@pytest.mark.parametrize("nested", [False, True])
def test_a_traceback_says_where_but_not_what_the_error_says(formatter: type[JsonFormatter], nested: bool) -> None:
    text = formatter().format(failed(nested=nested))
    assert SECRET not in text
    assert "builtins.ValueError" in text
    assert ("RuntimeError" in text) == nested
    assert "test_logging.py" in text
    assert SECRET in formatter(with_texts=True).format(failed(nested=nested))


def test_errors_of_a_group_are_reported_one_by_one() -> None:
    class Group(Exception):
        exceptions = (KeyError(SECRET), OSError(SECRET))

    text = TextFormatter().format(made("x", exc_info=(Group, Group(SECRET), None)))
    assert all(name in text for name in ("KeyError", "OSError", "Group"))
    assert SECRET not in text


def test_a_line_of_the_engine_is_logged_by_the_parent_as_one_of_its_own() -> None:
    sent: list[Logged] = []
    logger = logging.Logger("glmserve.engine.worker.core")
    logger.addHandler(LogPipe(sent.append))
    logger.warning("it failed: %d", 7, extra=about(3))
    assert sent[0].request_id == 3
    enter_request(RequestRecord("r1"))
    record = log_record(sent[0], "m.gguf")
    RequestIdFilter().filter(record)
    line = json.loads(JsonFormatter().format(record))
    assert (line["logger"], line["message"], line["engine"]) == (
        "glmserve.engine.worker.core",
        "it failed: 7",
        "m.gguf",
    )
    assert (line["level"], line["request_id"]) == ("warning", "r1")


def test_an_error_of_the_engine_keeps_its_traceback_on_the_way() -> None:
    sent: list[Logged] = []
    LogPipe(sent.append).emit(failed())
    assert "ValueError" in JsonFormatter().format(log_record(sent[0], "m"))


def test_a_line_that_the_parent_does_not_live_to_read_does_no_harm() -> None:
    def gone(_: Logged) -> None:
        raise BrokenPipeError

    LogPipe(gone).emit(made("x"))
