"""Files and batches as the official client uses them, on a scripted engine."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI, ConflictError

from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import EngineDied, QueueFull
from tests.support.api import MODEL, connect, make_app
from tests.support.batches import CHAT, ended, jsonl, line, lines_of, run
from tests.support.official import openai_client
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture
def options(tmp_path: Path) -> ApiOptions:
    return ApiOptions(batches=BatchOptions(tmp_path / "batches"))


async def test_a_batch_from_its_file_to_its_output(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    content = jsonl(line("a", "one"), line("b", "two\u2028three"), line("wrong", temperature=9))
    file = await openai.files.create(file=("in.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(content), "in.jsonl", "batch", "processed")
    created = await openai.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"job": "nightly"}
    )
    assert created.status == "validating"
    batch = await ended(openai, created)
    assert batch.status == "completed"
    assert batch.model == MODEL
    assert batch.metadata == {"job": "nightly"}
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    stages = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    reached = [time for time in stages if time is not None]
    assert len(reached) == len(stages)
    assert reached == sorted(reached)
    answers = await lines_of(openai, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    texts = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert texts == ["你问的是：one", "你问的是：two\u2028three"]
    assert all(answer["error"] is None for answer in answers)
    (failed,) = await lines_of(openai, batch.error_file_id)
    assert failed["custom_id"] == "wrong"
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["param"] == "temperature"
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(a["response"]["body"]["usage"]["total_tokens"] for a in answers)
    assert all(one.caller.background and one.caller.id == "batch:" for one in engine.submissions)


async def test_a_line_is_answered_as_a_request_over_http(openai: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    bodies: dict[str, Mapping[str, object]] = {
        CHAT: {"messages": [{"role": "user", "content": "x"}], "seed": 1, "logprobs": True},
        "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 3},
        "/v1/responses": {"input": "x", "store": False},
    }
    for endpoint, body in bodies.items():
        bad = {**body, "max_tokens": "many", "max_output_tokens": "many"}
        lines = [{"custom_id": f"{n}", "method": "POST", "url": endpoint, "body": b} for n, b in enumerate((body, bad))]
        batch = await ended(openai, await run(openai, jsonl(*lines), endpoint))
        told = await lines_of(openai, batch.output_file_id) + await lines_of(openai, batch.error_file_id)
        assert [one["custom_id"] for one in told] == ["0", "1"]
        for one, asked in zip(told, (body, bad), strict=True):
            direct = await http.post(endpoint, json=asked)
            assert one["response"]["status_code"] == direct.status_code
            assert _lasting(one["response"]["body"]) == _lasting(direct.json())


def _lasting(value: object) -> object:
    """Leave out what is another one in each reply."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in ("id", "created", "created_at", "completed_at")}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


async def test_an_input_with_faults_fails_and_says_where(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    content = b"\n".join(
        (
            jsonl(line("a")).strip(),
            b"{not json",
            jsonl(line("a")).strip(),
            b'{"custom_id": "n\x00", "method": "POST"}',
            jsonl(line("b", url="/v1/models")).strip(),
            jsonl(line("c", url="/v1/embeddings")).strip(),
            jsonl({**line("d"), "method": "GET"}).strip(),
            jsonl({**line("e"), "body": "x"}).strip(),
            b'{"method": "POST"}',
            b"[1]",
            b"\xff\xfe",
            b"[" * 50_000,
            b'{"custom_id": "x", "custom_id": "y"}',
        )
    )
    batch = await ended(openai, await run(openai, content))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(one.line, one.code) for one in batch.errors.data] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_json_line"),
        (5, "invalid_url"),
        (6, "invalid_url"),
        (7, "invalid_method"),
        (8, "missing_required_parameter"),
        (9, "missing_required_parameter"),
        (10, "invalid_json_line"),
        (11, "invalid_json_line"),
        (12, "invalid_json_line"),
        (13, "invalid_json_line"),
    ]
    assert not engine.submissions
    empty = await ended(openai, await run(openai, b"\n\n"))
    assert empty.errors is not None
    assert empty.errors.data is not None
    assert [one.code for one in empty.errors.data] == ["empty_file"]


async def test_a_batch_is_cancelled_and_keeps_what_was_answered(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda asked: "x" * (3000 if "slow" in asked.prompt else 1)
    engine.step_seconds = 0.01
    lines = [line("quick"), *(line(f"slow {n}", "slow") for n in range(40))]
    batch = await run(openai, jsonl(*lines))
    while not (batch.request_counts and batch.request_counts.completed):
        await asyncio.sleep(0.01)
        batch = await openai.batches.retrieve(batch.id)
    cancelling = await openai.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    assert cancelling.cancelling_at
    batch = await ended(openai, batch)
    assert batch.status == "cancelled"
    assert engine.running == 0
    assert [one["custom_id"] for one in await lines_of(openai, batch.output_file_id)] == ["quick"]
    assert (await openai.batches.cancel(batch.id)).status == "cancelled"


async def test_metrics_tell_how_many_batches_run_and_wait(
    openai: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    async def figures() -> dict[str, float]:
        text = (await http.get("/metrics")).text
        samples = (
            one.rsplit(" ", 1) for one in text.splitlines() if one.startswith(("glmserve:num_batch", "glmserve:batch"))
        )
        return {name.removeprefix("glmserve:"): float(value) for name, value in samples}

    async def become(**expected: float) -> None:
        deadline = time.monotonic() + 20
        while not expected.items() <= (seen := await figures()).items():
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.01)

    idle = {"num_batches_running": 0, "num_batches_waiting": 0, "num_batch_lines_waiting": 0}
    lines = [f'batch_lines_total{{outcome="{outcome}"}}' for outcome in ("completed", "failed")]
    assert await figures() == {**dict.fromkeys(lines, 0), **idle}
    engine.endless = True
    first = await run(openai, jsonl(*(line(str(n)) for n in range(5)), line("wrong", temperature=9)))
    second = await run(openai, jsonl(line("a"), line("b")))
    await become(num_batches_running=1, num_batches_waiting=1, num_batch_lines_waiting=7)
    engine.endless = False
    await ended(openai, first)
    await ended(openai, second)
    await become(**idle)
    assert list((await figures()).values()) == [7, 1, 0, 0, 0]


async def test_what_was_not_answered_in_time_is_in_the_error_file(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda asked: "x" * (100_000 if "slow" in asked.prompt else 1)
    engine.step_seconds = 0.01
    lines = [line("quick"), *(line(f"slow {n}", "slow", max_tokens=4000) for n in range(20))]
    batch = await ended(openai, await run(openai, jsonl(*lines), window="3s"))
    assert batch.status == "expired"
    assert batch.expired_at
    assert [one["custom_id"] for one in await lines_of(openai, batch.output_file_id)] == ["quick"]
    left = await lines_of(openai, batch.error_file_id)
    assert [one["custom_id"] for one in left] == [f"slow {n}" for n in range(20)]
    assert {one["error"]["code"] for one in left} == {"batch_expired"}
    with pytest.raises(ConflictError):
        await openai.batches.cancel(batch.id)


@pytest.mark.parametrize("fault", [EngineDied("it died"), QueueFull(64)], ids=["the engine dies", "the queue is full"])
async def test_a_fault_that_is_not_the_line_s_is_tried_again(
    openai: AsyncOpenAI, engine: ScriptedEngine, fault: Exception
) -> None:
    engine.reject = fault
    batch = await run(openai, jsonl(*(line(f"{n}") for n in range(3))))
    await ended(openai, batch, "in_progress")
    await asyncio.sleep(0.1)
    engine.reject = None
    batch = await ended(openai, batch)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 3


async def test_streams_and_wrong_requests_are_refused(openai: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    batch = await ended(openai, await run(openai, jsonl(line("a", stream=True))))
    (failed,) = await lines_of(openai, batch.error_file_id)
    assert failed["response"]["body"]["error"]["param"] == "stream"
    file = await openai.files.create(file=("x.jsonl", jsonl(line("a"))), purpose="batch")
    good: dict[str, object] = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    for wrong, param in (
        ({"endpoint": "/v1/rerank"}, "endpoint"),
        ({"completion_window": "1y"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
    ):
        reply = await http.post("/v1/batches", json={**good, **wrong})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_a_batch_goes_on_after_a_restart_and_no_line_is_answered_twice(
    engine: ScriptedEngine, options: ApiOptions
) -> None:
    engine.step_seconds = 0.005
    lines = [line(f"{n}", f"question {n}") for n in range(60)]
    async with connect(app := make_app(engine, options)):
        openai = openai_client(app)
        batch = await run(openai, jsonl(*lines))
        while not (batch.request_counts and batch.request_counts.completed > 5):
            await asyncio.sleep(0.005)
            batch = await openai.batches.retrieve(batch.id)
    answered = batch.request_counts.completed
    assert answered < 60
    async with connect(app := make_app(second := ScriptedEngine(), options)):
        openai = openai_client(app)
        batch = await ended(openai, batch)
        told = [one["custom_id"] for one in await lines_of(openai, batch.output_file_id)]
    assert told == [str(n) for n in range(60)]
    assert 0 < len(second.submissions) <= 60 - answered


async def test_a_folder_that_another_server_has_is_left_to_it(
    engine: ScriptedEngine, options: ApiOptions, tmp_path: Path
) -> None:
    async with connect(make_app(engine, options)) as first:
        assert (await first.get("/v1/files")).status_code == 200
        async with connect(make_app(ScriptedEngine(), options)) as second:
            reply = await second.get("/v1/files")
            assert reply.status_code == 503
            assert "--batch-dir" in reply.json()["error"]["message"]
            assert str(tmp_path) not in reply.text
            assert (await second.post(CHAT, json=line("a")["body"])).status_code == 200


async def test_lines_with_one_instruction_are_computed_together(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    def system(n: int) -> Mapping[str, str]:
        return {"role": "system", "content": f"instruction {n % 3} " * 50}

    lines = [line(f"{n}", messages=[system(n), {"role": "user", "content": f"{n}"}]) for n in range(48)]
    batch = await ended(openai, await run(openai, jsonl(*lines)))
    assert batch.status == "completed"
    kinds = [one.prompt.partition("instruction ")[2][:1] for one in engine.submissions]
    assert kinds == sorted(kinds)
    assert [one["custom_id"] for one in await lines_of(openai, batch.output_file_id)] == [str(n) for n in range(48)]


async def test_a_server_without_batches_has_no_such_address(engine: ScriptedEngine) -> None:
    async with connect(make_app(engine, ApiOptions(batches=None))) as http:
        assert (await http.get("/v1/batches")).status_code == 404


async def test_a_folder_that_cannot_be_used_is_told_and_the_rest_is_served(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "batches.sqlite3").write_text("this is no database, and longer than its header " * 100)
    for folder in (tmp_path / "file" / "below", tmp_path / "broken"):
        async with connect(make_app(engine, ApiOptions(batches=BatchOptions(folder)))) as http:
            reply = await http.get("/v1/batches")
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "batches_unavailable")
            assert str(tmp_path) not in reply.text
            assert (await http.post(CHAT, json=line("a")["body"])).status_code == 200
