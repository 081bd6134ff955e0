"""On a real server: what one key asked is not told to another, and what is public stays as fast for all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server

RULES = "你是仓库的助手。只用中文回答，一句话，不解释。" * 6
SECRET = "73914268"
PRIVATE = "我的订单写在这里，请你记住它的编号，以后我会再来问你，编号是 "
KEYS = ("ann-secret-key", "bob-secret-key", "eve-secret-key")
EXAMPLES = "判断句子的情感。\n" + "句子：今天很高兴。\n情感：积极\n句子：这里太吵了。\n情感：消极\n" * 8 + "句子："


class Caller:
    """Asks with a key, and says what was cached."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"api-key": key}, timeout=60)

    def ask(self, question: str, system: str = "", **fields: object) -> int:
        messages = [{"role": "system", "content": system}] if system else []
        body = {"messages": [*messages, {"role": "user", "content": question}], "max_tokens": 1, "timings": True}
        reply = self._http.post("/v1/chat/completions", json={**body, **fields}).raise_for_status().json()
        cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert reply["timings"]["cache_n"] == cached
        return int(cached)

    def probe(self) -> tuple[str, list[int]]:
        """Read the number digit by digit, ten probes for each."""
        known, figures = "", []
        for _ in SECRET:
            found = [self.ask(f"{PRIVATE}{known}{digit}？") for digit in range(10)]
            known += str(max(range(10), key=found.__getitem__))
            figures += found
        return known, figures


@contextmanager
def serving(gguf: Path, folder: Path, *arguments: str) -> Iterator[Mapping[str, Caller]]:
    (folder / "keys").write_text("".join(f"{key.partition('-')[0]}:{key}\n" for key in KEYS))
    (folder / "examples.txt").write_text(EXAMPLES, "utf-8")
    flags = ("--api-key-file", str(folder / "keys"), "--pin", str(folder / "examples.txt"), "--context", "1024")
    with running_server(str(gguf), *flags, *arguments, log=folder / "log") as (url, _):
        yield {key.partition("-")[0]: Caller(url, key) for key in KEYS}


@pytest.fixture(scope="module")
def callers(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Caller]]:
    with serving(tiny_gguf, tmp_path_factory.mktemp("apart")) as found:
        yield found


def test_a_number_is_read_by_80_probes_where_prefixes_are_shared(tiny_gguf: Path, tmp_path: Path) -> None:
    with serving(tiny_gguf, tmp_path, "--share-prefixes") as found:
        found["ann"].ask(f"{PRIVATE}{SECRET}？")
        known, figures = found["bob"].probe()
    assert (known, len(figures)) == (SECRET, 80)


def test_where_they_are_apart_the_probes_tell_nothing(callers: Mapping[str, Caller]) -> None:
    before = callers["eve"].probe()
    callers["ann"].ask(f"{PRIVATE}{SECRET}？")
    assert callers["bob"].probe() == before, "another key's request can be seen"
    assert before[0] != SECRET


def test_who_asks_again_finds_his_own(callers: Mapping[str, Caller]) -> None:
    question = "一二三四五六七八九十" * 5
    first, second = callers["ann"].ask(question), callers["ann"].ask(question)
    assert second > first + 30


def test_a_pinned_prefix_is_as_fast_for_every_key(callers: Mapping[str, Caller]) -> None:
    cached = [callers[name].ask(EXAMPLES + question) for name, question in (("ann", "好。"), ("bob", "坏。"))]
    assert cached[0] == cached[1] > 100


def test_a_system_message_is_shared_as_a_whole_and_not_in_part(callers: Mapping[str, Caller]) -> None:
    callers["ann"].ask("你好", RULES + SECRET)
    nothing = callers["eve"].ask("你好", RULES + SECRET[:-1] + "0")
    assert callers["bob"].ask("再见", RULES + SECRET) > nothing + 50


def test_a_task_begins_alike_for_every_key(callers: Mapping[str, Caller]) -> None:
    tasks = [callers[name].ask("天气真好", model="chatglm2-tiny:news") for name in ("ann", "bob")]
    assert tasks[1] > 16


def test_salts_and_cache_keys_part_what_a_key_has(callers: Mapping[str, Caller]) -> None:
    ann, question = callers["ann"], "甲乙丙丁戊己庚辛壬癸" * 5
    nothing = ann.ask(question, cache_salt="one")
    assert ann.ask(question, cache_salt="two") == nothing
    assert ann.ask(question, prompt_cache_key="a") == nothing
    assert ann.ask(question, prompt_cache_key="b") == nothing
    assert ann.ask(question, cache_salt="two") > nothing + 30
    assert ann.ask(question, prompt_cache_key="a") > nothing + 30
