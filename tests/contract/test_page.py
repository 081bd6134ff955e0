"""The chat page at `/`: what a browser is sent, and who else still asks there."""

import gzip
import re
from html import unescape

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Encoding": "gzip, deflate, br"}


def addresses(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(page/[^"]+)"', page)


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "*/*", "application/json"])
async def test_every_get_of_the_root_gets_the_page(http: httpx.AsyncClient, accept: str) -> None:
    reply = await http.get("/", headers={"Accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.text.startswith("<!doctype html>")


async def test_a_post_to_the_root_is_the_old_contract_also_for_a_browser(http: httpx.AsyncClient) -> None:
    reply = await http.post("/", json={"prompt": "你好", "history": []}, headers=BROWSER)
    assert list(reply.json()) == ["response", "history", "status", "time"]


async def test_other_methods_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.put("/")).status_code == 405


async def test_the_page_may_load_and_run_nothing_but_its_own_files(http: httpx.AsyncClient) -> None:
    reply = await http.get("/", headers=BROWSER)
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", reply.text)


async def test_its_files_have_addresses_of_their_version_and_are_kept_for_ever(http: httpx.AsyncClient) -> None:
    page = await http.get("/", headers=BROWSER)
    assert page.headers["cache-control"] == "no-cache"
    assert len(addresses(page.text)) >= 4
    for address in addresses(page.text):
        reply = await http.get(f"/{address}", headers=BROWSER)
        assert reply.status_code == 200
        assert "immutable" in reply.headers["cache-control"]
        assert "content-security-policy" in reply.headers


async def test_a_file_of_another_version_or_outside_the_folder_is_not_there(http: httpx.AsyncClient) -> None:
    address = addresses((await http.get("/")).text)[0]
    folder = "/".join(address.split("/")[:2])
    for other in ("page/0123/js/main.js", f"{folder}/nothing.js", f"{folder}/%2e%2e/files.py"):
        reply = await http.get(f"/{other}")
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "not_found"


async def test_a_browser_that_has_the_page_is_answered_in_one_line(http: httpx.AsyncClient) -> None:
    first = await http.get("/", headers=BROWSER)
    again = await http.get("/", headers={**BROWSER, "If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_it_is_packed_for_those_who_can_unpack_it(http: httpx.AsyncClient) -> None:
    packed = await http.get("/", headers=BROWSER)
    plain = await http.get("/", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert "Accept-Encoding" in plain.headers["vary"]
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content)) + 100


async def test_the_head_says_the_same_without_the_body(http: httpx.AsyncClient) -> None:
    got = await http.get("/", headers=BROWSER)
    head = await http.head("/", headers=BROWSER)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_the_page_needs_no_key_but_everything_it_asks_for_does() -> None:
    options = ApiOptions(keys=ApiKeyStore(parse_keys(["sk-secret-one"], Limits(), "test")))
    async with connect(make_app(ScriptedEngine(), options)) as http:
        page = await http.get("/")
        assert page.status_code == 200
        assert (await http.get("/" + addresses(page.text)[0])).status_code == 200
        assert (await http.get("/v1/models")).status_code == 401
        assert (await http.post("/", json={"prompt": "你好"})).status_code == 401
        assert (await http.post("/page/x")).status_code == 401


async def test_it_can_be_switched_off() -> None:
    options = ApiOptions(page=False, keys=ApiKeyStore(parse_keys(["sk-secret-one"], Limits(), "test")))
    async with connect(make_app(ScriptedEngine(), options)) as http:
        assert (await http.get("/")).status_code == 401
        http.headers["Authorization"] = "Bearer sk-secret-one"
        assert (await http.get("/")).status_code == 405
        assert (await http.get("/page/0/js/main.js")).status_code == 404
        assert (await http.post("/", json={"prompt": "你好"})).json()["response"]


async def test_the_page_of_the_api_has_every_operation_and_needs_nothing_from_elsewhere(
    http: httpx.AsyncClient,
) -> None:
    reply = await http.get("/docs", headers=BROWSER)
    assert reply.headers["content-security-policy"] == (await http.get("/")).headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|(?:src|href)=\"(?:https?:)?//", reply.text)
    document = (await http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method in operations:
            anchor = re.sub(r"\W+", "-", method.upper() + path)
            assert f'<div id="{anchor}">' in reply.text
    targets = set(re.findall(r'href="#([^"]+)"', reply.text))
    assert targets
    assert targets <= set(re.findall(r' id="([^"]+)"', reply.text))
    for address in addresses(reply.text):
        assert (await http.get(f"/{address}")).status_code == 200


async def test_the_commands_of_the_page_of_the_api_are_answered(http: httpx.AsyncClient) -> None:
    text = unescape((await http.get("/docs")).text)
    asked = re.findall(r"curl -s http://127\.0\.0\.1:8000(\S+) -d '(\{.*?\})'", text)
    paths = (await http.get("/openapi.json")).json()["paths"]
    bodies = {path for path, operations in paths.items() if "requestBody" in operations.get("post", {})}
    assert {path.replace("/review/", "/{task_id}/") for path, _ in asked} == bodies, (
        "each has an example in server/page/api_page.py"
    )
    for path, body in asked:
        reply = await http.post(path, content=body)
        # This server has one model, which writes text, and no tasks.
        other = reply.status_code == 404 and re.search("no served model supports|no stored prompt 'review'", reply.text)
        assert reply.status_code == 200 or other, reply.text


async def test_the_page_of_the_api_is_found_with_a_slash_and_below_a_prefix(http: httpx.AsyncClient) -> None:
    reply = await http.get("/docs/")
    assert (reply.status_code, reply.headers["location"]) == (308, "../docs")


async def test_the_page_of_the_api_says_whether_it_takes_a_key_and_needs_none_itself() -> None:
    keys = ApiKeyStore(parse_keys(["sk-12345678"], Limits(), "test"))
    async with connect(make_app(ScriptedEngine(), ApiOptions(keys=keys)), loaded=False) as http:
        assert "needs an API key" in (await http.get("/docs")).text
    async with connect(make_app(ScriptedEngine(), ApiOptions(page=False))) as http:
        assert (await http.get("/docs")).status_code == 404
