"""Files and batches of callers who mean harm: bounded in size and number, and never a path."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from glmserve.batches import store
from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

CHAT = "/v1/chat/completions"
BOUNDARY = {"content-type": "multipart/form-data; boundary=B"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
async def http(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(make_app(ScriptedEngine(), ApiOptions(batches=BatchOptions(folder)))) as client:
        yield client


def form(name: bytes, content: bytes) -> bytes:
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    purpose = b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    return purpose + head + content + b"\r\n--B--\r\n"


async def upload(http: httpx.AsyncClient, content: bytes, name: bytes = b"x.jsonl") -> httpx.Response:
    return await http.post("/v1/files", content=form(name, content), headers=BOUNDARY)


async def outcome(http: httpx.AsyncClient, content: bytes) -> dict[str, object]:
    file = (await upload(http, content)).json()["id"]
    body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    batch: dict[str, object] = (await http.post("/v1/batches", json=body)).json()
    deadline = time.monotonic() + 60
    while batch["status"] not in ("completed", "failed") and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        batch = (await http.get(f"/v1/batches/{batch['id']}")).json()
    return batch


def line(custom_id: str) -> bytes:
    messages = f'[{{"role": "user", "content": "{custom_id}"}}]'
    body = f'{{"model": "{MODEL}", "messages": {messages}}}'
    return f'{{"custom_id": "{custom_id}", "method": "POST", "url": "{CHAT}", "body": {body}}}\n'.encode()


@pytest.mark.parametrize(
    "name",
    [b"../../../etc/passwd", b"/etc/passwd", b"..\\..\\x", b"a\x00b", b"\xe2\x80\xae.jsonl", b"x" * 4000, b"", b"."],
)
async def test_a_name_is_no_path(http: httpx.AsyncClient, folder: Path, name: bytes) -> None:
    reply = await upload(http, b"{}", name)
    assert reply.status_code == 200, reply.text
    assert "/" not in reply.json()["filename"]
    assert "\0" not in reply.json()["filename"]
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == [
        "batches.sqlite3",
        "batches.sqlite3",
        "batches.sqlite3",
        "lock",
    ]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("file_id", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "' OR 1=1 --", "file-%00", "%"])
async def test_an_id_is_no_path_and_no_query(http: httpx.AsyncClient, file_id: str) -> None:
    await upload(http, b"{}")
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content", f"/v1/batches/{file_id}"):
        assert (await http.get(path)).status_code == 404
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    assert (await http.post("/v1/batches", json=body)).status_code == 404


async def test_a_file_of_a_hundred_megabytes_is_kept_off_the_memory(http: httpx.AsyncClient, folder: Path) -> None:
    megabyte = b"x" * 2**20
    total = 100

    async def body() -> AsyncIterator[bytes]:
        head, _, tail = form(b"large", b"@").partition(b"@")
        yield head
        for _ in range(total):
            yield megabyte
        yield tail

    reply = await http.post("/v1/files", content=body(), headers=BOUNDARY)
    assert reply.status_code == 200, reply.text
    assert reply.json()["bytes"] == total * 2**20
    batch_id = (
        await http.post(
            "/v1/batches",
            json={"input_file_id": reply.json()["id"], "endpoint": CHAT, "completion_window": "24h"},
        )
    ).json()["id"]
    while (batch := (await http.get(f"/v1/batches/{batch_id}")).json())["status"] == "validating":
        await asyncio.sleep(0.02)
    assert [one["code"] for one in batch["errors"]["data"]] == ["line_too_long"]
    assert (await http.delete(f"/v1/files/{reply.json()['id']}")).status_code == 200
    await http.get("/v1/files")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10 * 2**20


@pytest.mark.parametrize(
    "content",
    [
        b"\n" * 100_000,
        b"\0" * 10_000,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"{}\n" * 60_000,
        b'{"custom_id": "a", "method": "POST", "url": "/v1/batches", "body": {}}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/files/../chat/completions", "body": {}}',
        b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
    ],
)
async def test_a_hostile_input_fails_and_the_server_answers(http: httpx.AsyncClient, content: bytes) -> None:
    batch = await outcome(http, content)
    assert batch["status"] == "failed"
    assert (await http.get("/health")).status_code == 200


async def test_a_body_of_a_line_that_is_wrong_in_any_way_is_an_error_of_the_line(http: httpx.AsyncClient) -> None:
    bodies = (b"{}", b'{"messages": "x"}', b'{"messages": []}', b'{"model": "none", "messages": [1]}', b'{"stream": 1}')
    lines = (
        b'{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": %s}' % one
        for one in enumerate(bodies)
    )
    batch = await outcome(http, b"\n".join(lines))
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 5, "completed": 0, "failed": 5})


async def test_thousands_of_tiny_batches_are_bounded_and_end(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_UNFINISHED", 20)
    monkeypatch.setattr(store, "MOST_BATCHES", 60)
    file = (await upload(http, line("a"))).json()["id"]
    body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    statuses = [(await http.post("/v1/batches", json=body)).status_code for _ in range(300)]
    assert set(statuses) <= {200, 429}
    assert 429 in statuses or statuses.count(200) == 300
    while True:
        batches = (await http.get("/v1/batches?limit=100")).json()
        if all(one["status"] == "completed" for one in batches["data"]):
            break
        await asyncio.sleep(0.02)
    assert len(batches["data"]) <= 60
    assert not batches["has_more"]


async def test_files_are_bounded_in_number(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_FILES", 5)
    statuses = [(await upload(http, b"{}")).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2


async def test_an_upload_that_breaks_off_leaves_nothing(http: httpx.AsyncClient) -> None:
    whole = form(b"x", b"y" * 3_000_000)
    reply = await http.post("/v1/files", content=whole[:-20], headers=BOUNDARY)
    assert reply.status_code == 400
    assert (await http.get("/v1/files")).json()["data"] == []
