"""Counters add up: every request ends as exactly one thing, and every token that was told of is counted."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import running_server
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

CHAT = "/v1/chat/completions"
OPEN = {"Authorization": "Bearer key-of-ann"}
TIGHT = {"Authorization": "Bearer key-of-bob"}


def figures(text: str) -> dict[str, float]:
    """Return the sums over all labels, by name."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name.removeprefix("glmserve:")] += sample.value
    return dict(sums)


class Workload:
    """A mix of callers that are answered, refused, cut off or gone; and what their replies told."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._rng = random.Random(7)
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.left = 0
        self.told = Counter[str]()

    async def run(self) -> None:
        acts = [self.whole, self.streamed, self.faulty, self.keyless, self.past_budget, self.leave] * 5
        self._rng.shuffle(acts)
        for start in range(0, len(acts), 6):
            await asyncio.gather(*(act() for act in acts[start : start + 6]))

    def _body(self, **more: object) -> dict[str, object]:
        question = f"第{self._rng.randrange(1000)}个问题"
        return {"messages": [{"role": "user", "content": question}], "max_tokens": self._rng.randint(1, 12), **more}

    async def _post(self, path: str, body: object, headers: dict[str, str]) -> httpx.Response:
        self.sent += 1
        reply = await self._http.post(path, json=body, headers=headers)
        self.statuses[reply.status_code] += 1
        return reply

    async def whole(self) -> None:
        reply = await self._post(CHAT, self._body(n=self._rng.randint(1, 2)), OPEN)
        self.told.update({name: reply.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens")})

    async def streamed(self) -> None:
        body = self._body(stream=True, stream_options={"include_usage": True})
        reply = await self._post(CHAT, body, OPEN)
        usage = httpx.Response(200, text=reply.text.split("data: ")[-2]).json()["usage"]
        self.told.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens")})

    async def faulty(self) -> None:
        await self._post(CHAT, self._body(temperature=9), OPEN)

    async def keyless(self) -> None:
        await self._post(CHAT, self._body(), {})

    async def past_budget(self) -> None:
        reply = await self._post(CHAT, self._body(), TIGHT)
        if reply.status_code == 200:
            self.told.update({name: reply.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens")})

    async def leave(self) -> None:
        self.sent += 1
        self.left += 1
        body = self._body(stream=True, max_tokens=1900, ignore_eos=True)
        async with self._http.stream("POST", CHAT, json=body, headers=OPEN) as reply:
            with contextlib.suppress(StopAsyncIteration):
                await anext(reply.aiter_bytes())


async def settled(http: httpx.AsyncClient, count: float) -> dict[str, float]:
    """Return the figures once ``count`` requests have ended, and the engine has said so, which is a little later."""
    for _ in range(600):
        now = figures((await http.get("/metrics", headers=OPEN)).text)
        names = ("request_success_total", "request_aborted_total", "request_refused_total", "request_failed_total")
        if sum(now.get(name, 0) for name in names) >= count and not now["num_requests_running"]:
            return now
        await asyncio.sleep(0.05)
    raise AssertionError(f"not all requests ended: {now}")


@pytest.mark.anyio
async def test_requests_and_tokens_add_up_over_a_mixed_workload(tiny_gguf: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:key-of-ann\nbob:key-of-bob requests=1\n")
    with running_server(str(tiny_gguf), "--api-key-file", str(keys), log=tmp_path / "log") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            workload = Workload(http)
            await workload.run()
            now = await settled(http, workload.sent)
            assert (await http.post("/chatglm", json={"prompt": "你好"}, headers=OPEN)).status_code == 200
            later = await settled(http, workload.sent + 1)
    statuses = workload.statuses
    assert set(statuses) == {200, 400, 401, 429}
    assert now["requests_received_total"] == workload.sent
    assert now["request_success_total"] == statuses[200]
    assert now["request_refused_total"] == statuses[400] + statuses[401] + statuses[429]
    assert now["request_aborted_total"] == workload.left
    assert now.get("request_failed_total", 0) == 0
    useful = now["prompt_tokens_total"] + now["generation_tokens_total"] - now["wasted_tokens_total"]
    assert useful == workload.told["prompt_tokens"] + workload.told["completion_tokens"]
    assert now["wasted_tokens_total"] > 0
    assert now["key_requests_total"] == workload.sent - statuses[401]
    assert now["key_tokens_total"] == now["prompt_tokens_total"] + now["generation_tokens_total"]
    assert now["e2e_request_latency_seconds_count"] == statuses[200]
    assert statuses[200] <= now["time_to_first_token_seconds_count"] <= statuses[200] + workload.left
    assert now["num_requests_running"] == now["num_requests_waiting"] == 0
    assert later["request_success_total"] == statuses[200] + 1
    assert later["prompt_tokens_total"] > now["prompt_tokens_total"]
    assert "key-of" not in (tmp_path / "log").read_text()


@pytest.mark.anyio
async def test_a_prompt_that_is_only_scored_has_no_answer_in_the_books_either() -> None:
    """The engine cannot give less than a token, which was counted, and taken off the caller's budget."""
    async with connect(make_app(ScriptedEngine())) as http:
        body = {"prompt": [7, 8, 9], "max_tokens": 0, "echo": True, "logprobs": 1}
        usage = (await http.post("/v1/completions", json=body)).json()["usage"]
        now = figures((await http.get("/metrics")).text)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 0)
    assert (now["prompt_tokens_total"], now["generation_tokens_total"]) == (3, 0)


@pytest.mark.anyio
async def test_the_engine_says_what_it_took(server_url: str) -> None:
    body = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 8, "ignore_eos": True, "timings": True}
    async with httpx.AsyncClient(base_url=server_url, timeout=60) as http:
        whole = (await http.post(CHAT, json=body)).json()
        again = (await http.post(CHAT, json=body)).json()
        stream = (await http.post(CHAT, json={**body, "stream": True})).text
        before = httpx.Response(200, text=stream.split("data: ")[-2]).json()
        plain = (await http.post(CHAT, json={**body, "timings": False})).json()
    for reply in (whole, again, before):
        timings = reply["timings"]
        assert timings["predicted_n"] == 8
        assert 0 < timings["prompt_ms"] < 60_000
        assert 0 < timings["predicted_ms"] < 60_000
        assert timings["predicted_per_second"] == pytest.approx(7000 / timings["predicted_ms"], rel=0.01)
        assert timings["queue_ms"] >= 0
    assert whole["timings"]["prompt_n"] + whole["timings"]["cache_n"] == whole["usage"]["prompt_tokens"]
    assert again["timings"]["cache_n"] > 0
    assert before["choices"] == []
    assert "timings" not in plain
