"""The same seed, the same answer, 30 times through a real server: alone after other work, and beside other requests."""

import random
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server

LONG = "请记住：" + "".join(f"第{i}件事是去{i * 7 % 100}号楼买{i * 13 % 50}本书。" for i in range(92))
"""Some 1,450 tokens."""
TIMES = 30


def _ask(url: str, text: str, max_tokens: int, **fields: object) -> tuple[str, str]:
    """Return the answer with its log-probabilities, and the fingerprint."""
    messages = [{"role": "user", "content": text}]
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": 1.0, "logprobs": True, **fields}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=600).raise_for_status().json()
    (choice,) = reply["choices"]
    return repr((choice["message"]["content"], choice["logprobs"])), reply["system_fingerprint"]


def _something(url: str, rng: random.Random) -> None:
    text = "".join(rng.choice("今天天气很好我们去公园吃饭看书学习工作") for _ in range(rng.randint(20, 700)))
    _ask(url, text, rng.randint(2, 40))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize("model", ["tiny_gguf", "q4_k_m_gguf"])
def test_thirty_answers_are_one(request: pytest.FixtureRequest, tmp_path: Path, model: str, beside: int) -> None:
    path: Path = request.getfixturevalue(model)
    flags = ("--context", "4096", *(("--deterministic",) if beside else ()))
    found: Counter[str] = Counter()
    fingerprints: Counter[str] = Counter()
    done = threading.Event()
    with running_server(str(path), *flags, log=tmp_path / "log") as (url, _):

        def others(number: int) -> None:
            rng = random.Random(number)
            while not done.is_set():
                _something(url, rng)

        threads = [threading.Thread(target=others, args=(number,)) for number in range(beside)]
        for thread in threads:
            thread.start()
        rng = random.Random(9)
        try:
            for _ in range(TIMES):
                if not beside and rng.random() < 0.7:
                    _something(url, rng)
                answer, fingerprint = _ask(url, LONG, 24, seed=7)
                if not fingerprint.endswith("_shared"):
                    found[answer] += 1
                fingerprints[fingerprint] += 1
        finally:
            done.set()
            for thread in threads:
                thread.join()
    print(found.values(), fingerprints)
    assert len(found) == 1
    assert sum(found.values()) == TIMES or beside
