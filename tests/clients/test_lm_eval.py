"""lm-eval: answers that are written, and answers that are scored, by the tokens of the server's own tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_python
from tests.support.native import logits_of

DOCS = [
    {"question": "请判断是正面还是负面：很好看，推荐！", "answer": "正面"},
    {"question": "请判断是正面还是负面：太无聊了。", "answer": "负面"},
]
ROUND = "[Round 1]\n\n问：{}\n\n答："
BEGINNING = ("[gMASK]", "sop")
NOISE = 0.2
"""The engine keeps keys and values as f16."""


def write_tasks(folder: Path) -> None:
    data = folder / "docs.jsonl"
    data.write_text("".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in DOCS))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_target": "answer",
        "target_delimiter": "",
    }
    written = {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["。", "\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    }
    text = ROUND.format("{{question}}")
    tasks: dict[str, dict[str, object]] = {
        "written": {**written, "doc_to_text": "question"},
        "continued": {**written, "doc_to_text": text},
        "chosen": {"output_type": "multiple_choice", "doc_to_text": text, "doc_to_choice": ["正面", "负面"]},
    }
    for name, task in tasks.items():
        # JSON is YAML, too.
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **common, **task}, ensure_ascii=False))


@pytest.fixture(scope="module")
def told(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What was asked and answered, by runs."""
    folder = tmp_path_factory.mktemp("lm-eval")
    write_tasks(folder)
    return run_python("openai3", "lm_eval_tasks.py", deployment.url, deployment.key, str(folder))


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


@pytest.mark.parametrize("run", ["chat", "continued"])
def test_answers_are_written(told: Told, run: str) -> None:
    assert [doc["answer"] for doc, *_ in told[run]] == ["正面", "负面"]
    assert all(response[0] in ("正面", "负面") for _, (response,), _ in told[run])


@pytest.mark.parametrize(("run", "special"), [("texts", BEGINNING), ("ids", ())])
def test_scores_are_those_of_the_model(
    told: Told, tiny_gguf: Path, tokenizer: LlamaTokenizer, run: str, special: tuple[str, ...]
) -> None:
    """Against llama.cpp asked directly. Texts begin as the model's texts do, ids are taken as they are."""
    prompts, asked, answered = [], [], []
    for doc, responses, _ in told[run]:
        for choice, (response,) in zip(("正面", "负面"), responses, strict=True):
            beginning = tuple(map(tokenizer.special_id, special))
            prompts.append((*beginning, *tokenizer.encode(ROUND.format(doc["question"]))))
            asked.append((*beginning, *tokenizer.encode(ROUND.format(doc["question"]) + choice)))
            answered.append((float(response[0]), str(response[1]) == "True"))
    assert len(answered) == 4
    for prompt, ids, logits, (score, greedy) in zip(prompts, asked, logits_of(tiny_gguf, asked), answered, strict=True):
        assert ids[: len(prompt)] == prompt
        scores = log_softmax(logits[len(prompt) - 1 : -1])
        own = scores[np.arange(len(scores)), ids[len(prompt) :]]
        assert score == pytest.approx(own.sum(), abs=NOISE)
        assert greedy is bool((own == scores.max(1)).all())


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    scores: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return scores
