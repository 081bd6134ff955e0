"""Files of batches as the official client uses them: whose they are, how long they stay, how large they may be."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, ConflictError, NotFoundError

from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import connect, make_app
from tests.support.batches import CHAT, ended, jsonl, line, lines_of, run
from tests.support.official import openai_client
from tests.support.scripted_engine import ScriptedEngine

FILE: Mapping[str, tuple[str, bytes]] = {"file": ("x.jsonl", b"{}")}


@pytest.fixture
def options(tmp_path: Path) -> ApiOptions:
    return ApiOptions(batches=BatchOptions(tmp_path / "batches"))


async def test_lists_have_cursors(openai: AsyncOpenAI) -> None:
    file = await openai.files.create(file=("x.jsonl", jsonl(line("a"))), purpose="batch")
    made = [
        (await openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")).id
        for _ in range(5)
    ]
    first = await openai.batches.list(limit=2)
    assert [one.id for one in first.data] == made[:2:-1]
    assert first.has_more
    assert [one.id async for one in openai.batches.list(limit=2)] == made[::-1]
    for batch_id in made:
        await ended(openai, await openai.batches.retrieve(batch_id))
    files = [one async for one in openai.files.list(limit=3, order="asc")]
    assert files[0].id == file.id
    assert len(files) == 6
    assert len({one.id for one in files}) == 6
    assert [one.id async for one in openai.files.list(purpose="batch")] == [file.id]
    assert [one async for one in openai.files.list(purpose="batch", after=file.id)] == []
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": "batch_none"}, {"order": "up"}):
        with pytest.raises(BadRequestError):
            await openai.batches.list(extra_query=wrong)


async def test_a_file_is_retrieved_and_deleted(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    content = jsonl(*(line(f"{n}", "中文" * 5000) for n in range(40)))  # several pieces
    file = await openai.files.create(file=("名字.jsonl", content), purpose="batch")
    assert (await openai.files.retrieve(file.id)) == file
    assert file.filename == "名字.jsonl"
    assert (await openai.files.content(file.id)).content == content
    engine.endless = True
    batch = await openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(ConflictError, match="cancel the batch first"):
        await openai.files.delete(file.id)
    await openai.batches.cancel(batch.id)
    await ended(openai, batch)
    assert (await openai.files.delete(file.id)).deleted
    for gone in (openai.files.retrieve, openai.files.content, openai.files.delete):
        with pytest.raises(NotFoundError):
            await gone(file.id)
    with pytest.raises(NotFoundError):
        await openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def test_a_file_and_a_batch_are_of_the_key_that_made_them(engine: ScriptedEngine, tmp_path: Path) -> None:
    keys = ApiKeyStore(parse_keys(["anna:secret-of-anna", "bert:secret-of-bert"], Limits(), "test"))
    options = ApiOptions(batches=BatchOptions(tmp_path / "batches"), keys=keys)
    async with connect(app := make_app(engine, options)):
        anna, bert = (openai_client(app, key) for key in ("secret-of-anna", "secret-of-bert"))
        batch = await ended(anna, await run(anna, jsonl(line("a"))))
        assert batch.output_file_id
        assert [one.caller.id for one in engine.submissions] == ["batch:anna"]
        assert engine.submissions[0].caller.scope.owner == "anna"
        for attempt in (
            bert.files.retrieve(batch.input_file_id),
            bert.files.content(batch.output_file_id),
            bert.files.delete(batch.output_file_id),
            bert.batches.retrieve(batch.id),
            bert.batches.cancel(batch.id),
            bert.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        assert [one async for one in bert.files.list()] == []
        assert [one async for one in bert.batches.list()] == []
        with pytest.raises(BadRequestError):
            await bert.batches.list(after=batch.id)


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        (FILE, {}, "purpose"),
        (FILE, {"purpose": "fine-tune"}, "purpose"),
        ({}, {"purpose": "batch"}, None),
        ({"other": ("x", b"")}, {"purpose": "batch"}, "file"),
        (FILE, {"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        (FILE, {"purpose": "batch", "expires_after": '{"anchor": "x", "seconds": 3600}'}, "expires_after.anchor"),
    ],
)  # fmt: skip
async def test_an_upload_that_is_wrong(
    http: httpx.AsyncClient, files: Mapping[str, tuple[str, bytes]], data: dict[str, str], param: str | None
) -> None:
    reply = await http.post("/v1/files", files=files, data=data)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert (await http.get("/v1/files")).json()["data"] == []


async def test_a_file_has_the_lifetime_that_was_asked_for(openai: AsyncOpenAI) -> None:
    file = await openai.files.create(
        file=("x.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600


async def test_limits_of_sizes(engine: ScriptedEngine, tmp_path: Path) -> None:
    options = ApiOptions(batches=BatchOptions(tmp_path / "batches", most_bytes=3000, most_file_bytes=2000))
    async with connect(app := make_app(engine, options)):
        openai = openai_client(app)
        with pytest.raises(BadRequestError) as large:
            await openai.files.create(file=("x.jsonl", b"x" * 2001), purpose="batch")
        assert large.value.code == "file_too_large"
        first = await openai.files.create(file=("x.jsonl", b"x" * 2000), purpose="batch")
        with pytest.raises(APIStatusError) as full:
            await openai.files.create(file=("x.jsonl", b"x" * 2000), purpose="batch")
        assert (full.value.status_code, full.value.code) == (413, "storage_full")
        await openai.files.delete(first.id)
        # A result that finds no space is an error of its line: the batch ends all the same.
        engine.reply = lambda _: "x" * 3000
        batch = await ended(openai, await run(openai, jsonl(line("a", max_tokens=3500))))
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"total": 1, "completed": 0, "failed": 1}
        (failed,) = await lines_of(openai, batch.error_file_id)
        assert failed["error"]["code"] == "storage_full"
