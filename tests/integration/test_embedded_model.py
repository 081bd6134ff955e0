"""The embedded model, quantised and behind the server, still does what its README says on rows it never saw."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

TINY = Path(__file__).resolve().parents[2] / "models" / "tiny"


def _ask(url: str, text: str) -> str:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 120}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    return str(reply.json()["choices"][0]["message"]["content"])


def _answers(url: str, task: str, count: int) -> list[tuple[str, str]]:
    """Pairs of what the model says and what is right, for the first held-out rows, eight at a time."""
    form = (TINY / "prompts" / f"{task}.txt").read_text("utf-8")
    lines = (TINY / "heldout" / f"{task}s.jsonl").read_text("utf-8").splitlines()[:count]
    rows = [json.loads(line) for line in lines]
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda row: _ask(url, form.replace("{text}", row["text"])), rows))
    return list(zip(said, (row["answer"] for row in rows), strict=True))


def test_it_sorts_reviews_it_never_saw(server_url: str) -> None:
    pairs = _answers(server_url, "review", 60)
    assert {said for said, _ in pairs} <= {"正面", "负面"}
    assert sum(said == right for said, right in pairs) >= 0.7 * len(pairs)


def test_it_fills_in_the_eight_fields_of_sentences_it_never_saw(server_url: str) -> None:
    pairs = [(said.split("\n"), right.split("\n")) for said, right in _answers(server_url, "intent", 30)]
    assert all(len(right) == 8 for _, right in pairs)
    right_fields = sum(field in said for said, right in pairs for field in right)
    assert right_fields >= 0.8 * 8 * len(pairs)


@pytest.mark.parametrize("question", ["你好", "who are you?", "你是谁？", "hello"])
def test_it_greets_and_introduces_itself_in_the_language_of_the_question(server_url: str, question: str) -> None:
    answer = _ask(server_url, question)
    assert "glmserve" in answer
    assert answer.isascii() == question.isascii()
