"""Reviews as a batch against one request after the other, and the first token of a request beside a running batch.

python -m bench.batches [--lines 500] [MODEL]

The rounds without and with a batch alternate, so that what else the machine does concerns both. The lines of the batch
beside the requests have answers of a hundred tokens: it never ends within a round.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from bench.served import running

CHAT = "/v1/chat/completions"
_ENDED = ("completed", "failed", "expired", "cancelled")
_PRAISE = ("质量很好，推荐！", "物流很快，包装完好。", "用了一周，非常满意。", "颜色漂亮，孩子喜欢。")
_BLAME = ("再也不来了。", "用了两天就坏了。", "客服态度很差。", "和图片完全不一样。")


def reviews(count: int) -> Iterator[str]:
    """Yield ``count`` reviews, no two of them equal."""
    for number in range(count):
        texts = _PRAISE if number % 2 else _BLAME
        yield f"第{number + 1}次购买：{texts[number // 2 % len(texts)]}"


def review_line(number: int, text: str, model: str) -> Mapping[str, object]:
    """Return a line that classifies a review."""
    body = {"model": f"{model}:review", "messages": [{"role": "user", "content": text}]}
    return {"custom_id": f"{number}", "method": "POST", "url": CHAT, "body": body}


def long_line(number: int, model: str) -> Mapping[str, object]:
    """Return a line with a long answer."""
    messages = [{"role": "user", "content": f"请写一个关于数字{number}的故事。"}]
    body = {"model": model, "messages": messages, "max_tokens": 100, "ignore_eos": True}
    return {"custom_id": f"{number}", "method": "POST", "url": CHAT, "body": body}


def create(http: httpx.Client, lines: list[Mapping[str, object]]) -> str:
    """Create a batch and return its id."""
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)}).raise_for_status()
    body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    return str(http.post("/v1/batches", json=body).raise_for_status().json()["id"])


def wait(http: httpx.Client, batch_id: str, done: int | None = None) -> Mapping[str, object]:
    """Wait until a batch has ended, or ``done`` lines of it are answered; return it."""
    while True:
        batch: Mapping[str, object] = http.get(f"/v1/batches/{batch_id}").raise_for_status().json()
        counts = batch["request_counts"]
        assert isinstance(counts, dict)
        if batch["status"] in _ENDED or (done is not None and counts["completed"] >= done):
            return batch
        time.sleep(0.02)


def seconds_one_by_one(http: httpx.Client, texts: list[str], model: str) -> float:
    """Return how long the requests take one after the other."""
    started = time.perf_counter()
    for number, text in enumerate(texts):
        http.post(CHAT, json=review_line(number, text, model)["body"]).raise_for_status()
    return time.perf_counter() - started


def seconds_as_batch(http: httpx.Client, texts: list[str], model: str) -> float:
    """Return how long the same requests take as a batch, the upload included."""
    started = time.perf_counter()
    batch = wait(http, create(http, [review_line(number, text, model) for number, text in enumerate(texts)]))
    assert batch["status"] == "completed", batch
    return time.perf_counter() - started


def first_token(http: httpx.Client, number: int, model: str, characters: int) -> float:
    """Return the seconds until the first piece of an answer to a new question."""
    question = f"问题{number}：" + "请介绍一下人工智能的历史和应用。" * (characters // 16)
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 2, "stream": True}
    started = time.perf_counter()
    seconds = 0.0
    with http.stream("POST", CHAT, json=body) as reply:
        for line in reply.iter_lines():
            if not seconds and '"content":"' in line.replace(" ", "") and '"content":""' not in line.replace(" ", ""):
                seconds = time.perf_counter() - started
    return seconds or time.perf_counter() - started


def beside(
    http: httpx.Client, model: str, rounds: int, requests: int, characters: int
) -> tuple[list[float], list[float]]:
    """Return the times to first tokens without a batch, and beside one."""
    times: dict[bool, list[float]] = {False: [], True: []}
    number = 0
    for _ in range(rounds):
        for with_batch, found in times.items():
            batch_id = create(http, [long_line(n, model) for n in range(2000)]) if with_batch else ""
            if with_batch:
                wait(http, batch_id, 1)
            for _ in range(requests):
                number += 1
                found.append(first_token(http, number, model, characters))
                time.sleep(0.05)
            if with_batch:
                http.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()
                wait(http, batch_id)
    return times[False], times[True]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help="as for serve; the embedded one by default")
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=15, help="of a round")
    parser.add_argument("--characters", type=int, default=160, help="of a question, about")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(arguments.model, Path(folder)) as (url, _):
        http = httpx.Client(base_url=url, timeout=None)
        model = http.get("/v1/models").json()["data"][0]["id"]
        texts = list(reviews(arguments.lines))
        seconds_one_by_one(http, texts[:5], model)
        alone = seconds_one_by_one(http, texts, model)
        batch = seconds_as_batch(http, texts, model)
        print(f"{len(texts)} reviews one by one: {alone:.1f} s, {len(texts) / alone:.1f}/s")
        print(f"{len(texts)} reviews as a batch: {batch:.1f} s, {len(texts) / batch:.1f}/s")
        without, with_batch = beside(http, model, arguments.rounds, arguments.requests, arguments.characters)
        for name, times in (("without a batch", without), ("beside a batch", with_batch)):
            ninetieth = statistics.quantiles(times, n=10)[-1]
            print(f"first token {name}: median {statistics.median(times):.3f} s, 90th percentile {ninetieth:.3f} s")
        print(f"ratio of medians {statistics.median(with_batch) / statistics.median(without):.2f}")


if __name__ == "__main__":
    main()
