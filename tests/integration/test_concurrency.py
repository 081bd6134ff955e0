"""Many clients of the real server at once."""

import asyncio
import time
from pathlib import Path

import httpx
from openai import AsyncOpenAI

FORM = (Path(__file__).resolve().parents[2] / "models" / "tiny" / "prompts" / "review.txt").read_text("utf-8")
QUESTIONS = [
    "我今天很开心",
    "你是谁？",
    "who are you?",
    "What can you do",
    "谢谢",
    "今天天气怎么样",
    FORM.replace("{text}", "东西不错，物流很快"),
    FORM.replace("{text}", "房间太脏了，服务也差"),
]


async def _stream(client: AsyncOpenAI, question: str) -> str:
    stream = await client.chat.completions.create(
        model="chatglm2-tiny",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=60,
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_eight_streams_at_once_get_what_each_gets_alone(server_url: str) -> None:
    async with AsyncOpenAI(base_url=f"{server_url}/v1", api_key="none") as client:
        together = await asyncio.gather(*(_stream(client, question) for question in QUESTIONS))
        alone = [await _stream(client, question) for question in QUESTIONS]
    assert together == alone
    assert together[-2:] == ["正面", "负面"]


async def test_several_answers_to_one_question_share_its_prompt(server_url: str) -> None:
    async with AsyncOpenAI(base_url=f"{server_url}/v1", api_key="none") as client:
        reply = await client.chat.completions.create(
            model="chatglm2-tiny", messages=[{"role": "user", "content": QUESTIONS[-1]}], n=4, temperature=0
        )
    assert [choice.message.content for choice in reply.choices] == ["负面"] * 4
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 4 * 2


def test_a_client_that_hangs_up_leaves_nothing_running(server_url: str) -> None:
    body = {"messages": [{"role": "user", "content": "你好"}], "stream": True, "ignore_eos": True, "max_tokens": 3000}
    with httpx.stream("POST", f"{server_url}/v1/chat/completions", json=body, timeout=60) as reply:
        lines = reply.iter_lines()
        while '"content":""' in (line := next(lines)) or not line:
            pass  # the role comes at admission, text with the first step
        assert _running(server_url) == 1
    deadline = time.monotonic() + 5
    while _running(server_url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running(server_url) == 0


def _running(url: str) -> int:
    stats = httpx.get(f"{url}/health").json()["models"][0]["stats"]
    return int(stats["running"]) + int(stats["waiting"])
