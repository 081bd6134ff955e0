"""Two servers on one cold cache: one converts the model, and the other one waits for that."""

import fcntl
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glmserve.bootstrap.model_source import convert_source, find_source
from glmserve.config.values import Quant


def test_who_finds_another_one_converting_waits_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended: "is being written by another process"."""
    caplog.set_level(logging.INFO)
    source = find_source("", Quant.AUTO, tmp_path)
    source.gguf.parent.mkdir()
    part = source.gguf.with_name(f"{source.gguf.name}.part")
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        converting = threading.Thread(target=convert_source, args=(source,))
        converting.start()
        until = time.monotonic() + 20
        while "another process converts" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        assert converting.is_alive()
        assert caplog.text.count("waiting for it") == 1
    converting.join(30)  # the other one was killed, which ended its lock
    assert source.gguf.is_file()


def test_all_who_convert_at_once_get_the_model(tmp_path: Path) -> None:
    source = find_source("", Quant.AUTO, tmp_path)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(convert_source, source) for _ in range(3)]:
            done.result(60)
    assert source.gguf.is_file()
    assert [file.name for file in source.gguf.parent.iterdir()] == [source.gguf.name]
