"""lm-eval on the tasks in a folder, with no tokenizer but the server's: ADDRESS KEY FOLDER."""

import json
import os
import sys
from typing import Any

address, key, folder = sys.argv[1:]
os.environ.update(OPENAI_API_KEY=key, HF_HOME=folder)

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

tasks = TaskManager(include_path=folder, include_defaults=False)


def samples(model: str, path: str, task: str, *, chat: bool = False, **settings: object) -> list[object]:
    arguments = {"model": "chatglm2-tiny", "base_url": f"{address}{path}", **settings}
    results = lm_eval.simple_evaluate(
        model, arguments, [task], task_manager=tasks, apply_chat_template=chat, bootstrap_iters=0
    )
    return [[sample["doc"], sample["resps"], sample["target"]] for sample in results["samples"][task]]


scored: dict[str, Any] = {"auth_token": key, "num_concurrent": 4}
result = {
    "chat": samples("local-chat-completions", "/v1/chat/completions", "written", chat=True),
    "texts": samples("local-completions", "/v1/completions", "chosen", tokenized_requests=False, **scored),
    "ids": samples("local-completions", "/v1/completions", "chosen", batch_size=2, **scored),
    "continued": samples("local-completions", "/v1/completions", "continued", **scored),
}
print(json.dumps(result))
