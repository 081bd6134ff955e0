"""The benchmark's arithmetic and its prompts."""

import json
import random
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from glmserve.cli.bench.client import BenchError, RequestTimes, read_reply
from glmserve.cli.bench.command import BenchReport, show, summarise
from glmserve.cli.bench.workloads import WORKLOADS, Size


def _times(started: float, chunks: tuple[float, ...], tokens: int, cached: int = 0) -> RequestTimes:
    return RequestTimes(started, chunks, chunks[-1], prompt_tokens=100, cached_tokens=cached, completion_tokens=tokens)


def test_figures_are_those_of_the_field() -> None:
    report = summarise("two", [_times(0.0, (1.0, 1.5, 3.0), 5), _times(2.0, (2.5, 4.0), 4, cached=80)])
    assert report.wall == 4.0
    assert report.throughput == pytest.approx(9 / 4)
    assert (report.ttft_median, report.ttft_max) == (0.75, 1.0)
    assert report.tpot_median == pytest.approx(0.5)
    assert report.longest_pause == 1.5
    assert report.cached_share == 0.4


def test_the_rate_of_one_client_is_of_all_its_answers_and_not_of_the_usual_one() -> None:
    tokens, slow = 5, 9.0
    answers = [_times(float(start), (start + 1.0, start + 3.0), tokens) for start in (0, 10)]
    report = summarise("single", [*answers, _times(20.0, (21.0, 21.0 + slow), tokens)])
    assert report.tpot_median == pytest.approx(2.0 / 4)
    assert 1 / report.tpot_mean == pytest.approx(3 * 4 / (2.0 + 2.0 + slow))


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_makes_the_same_prompts_again_and_another_one_does_not(name: str) -> None:
    first, again, other = (WORKLOADS[name](random.Random(seed), Size(4)) for seed in (1, 1, 2))
    assert first == again != other


def test_clients_of_the_shared_prompt_differ_in_its_last_line_alone() -> None:
    new, known = WORKLOADS["shared"](random.Random(1), Size(8))
    prompts = [client.questions[0] for client in new.clients + known.clients]
    assert len({prompt.rsplit("\n", 1)[0] for prompt in prompts}) == 1
    assert len(set(prompts)) == 16
    assert len(prompts[0]) > 1000


def _http(*events: str) -> bytes:
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def _chunk(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)


def test_a_piece_of_text_came_when_the_last_of_its_bytes_did() -> None:
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    data = _http(_chunk("你"), _chunk("好"), usage, "[DONE]")
    cut = data.index("好".encode()) + 1
    reply = read_reply([(1.0, data[:cut]), (2.0, data[cut:])])
    assert (reply.texts, reply.times) == (["你", "好"], [1.0, 2.0])
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (7, 2, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_http(_chunk("你")), "ended in the middle"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull", "full"),
        (_http('{"error": {"message": "it broke"}}', "[DONE]"), "it broke"),
        (b"no HTTP at all", "not answer as expected"),
    ],
)
def test_an_answer_that_failed_is_reported(data: bytes, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_reply([(1.0, data)])


def test_pauses_are_those_of_the_streams_that_late_clients_disturb() -> None:
    early = _times(0.0, (1.0, 3.0), 2)
    late = replace(_times(1.0, (6.0, 16.0), 2), late=True)
    report = summarise("arriving", [early, late])
    assert (report.longest_pause, report.ttft_median) == (2.0, 5.0)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_figure_can_be_read_at_every_width(width: int) -> None:
    report = BenchReport("arriving", 1024, 123.45, 1234.5, 1.5, 12.345, 0.1234, 0.1234, 1.234, 123456, 0.99)
    written = StringIO()
    show((report, report), Console(width=width, file=written))
    text = written.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "arriving",
        "1024",
        "123.45",
        "1234.5",
        "12345",
        "123.4",
        "123456",
        "99%",
        "ITL worst",
        "prompt tokens",
    ):
        assert text.count(word) >= 1, word
