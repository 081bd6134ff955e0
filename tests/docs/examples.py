"""The examples of the README and of docs/, and what stands here for the things they name.

A block is an example unless its language is ``text`` or none. The Chinese pages have the same blocks to the byte, so
that each is tested once.
"""

import os
import re
import subprocess
from pathlib import Path

from tests.docs.markdown import Block, Page

ROOT = Path(__file__).parents[2]

ADDRESSES = ("http://127.0.0.1:8000", "http://127.0.0.1:7030")
"""Of the servers in the examples; in their place stands the one of the tests."""

STAGE = ("chatglm2-6b", "my-model", "my-glm4", "my-lora", "my-ptuning", "ptuning-output/checkpoint-3000",
         "bge-large-zh-v1.5", "bge-reranker-base")  # fmt: skip
"""Checkpoint folders that commands in the examples name; here each is the embedded model's."""

RUN_IN_SOAK = re.compile(r"^(lm_eval|llm) ", re.MULTILINE)
"""Blocks of programs that take half a minute to start; tests/soak/test_long_examples.py runs them."""

NOT_RUN_HERE = {
    "docker": "there is no Docker engine in the tests",
    "GLMSERVE_API_KEY=sk-ann-9f2c71 docker": "the same",
    "systemctl": "changes the machine",
    "sudo": "changes the machine",
    "kubectl": "there is no cluster",
    "ray": "there is no cluster; tests/soak/test_cluster.py starts one",
    "RAY_AUTH_MODE=token RAY_worker_niceness=0 ray": "the same",
    "serve": "the same",
    "pip install 'glmserve[ray]'": "the same",
    "CMAKE_ARGS=": "compiles for minutes and needs the network; tests/soak/test_installs.py installs in each way",
    ".venv/bin/pip": "needs the network, and the environment that is running now",
    "make": "its targets are what is running now; that they exist is checked",
    "python": "measures for minutes; that the module and its flags exist is checked",
    "py-spy": "not installed with the project, and looks into another process",
    "curl http://127.0.0.1:7030/baichuan": "needs a Baichuan; tests/contract/test_baichuan.py sends it",
}
"""Commands that are only parsed, by how they begin, and why."""

GLMSERVE_NOT_RUN = {
    "serve": "runs until it is stopped; the server that answers the other examples is one",
    "cluster": "needs Ray; tests/soak/test_cluster.py deploys on one",
    "chat": "needs somebody at the keyboard; tests/contract/test_chat_command.py is one",
    "pull": "needs the network; tests/integration/test_pull.py pulls from a hub of its own",
    "build-llama": "compiles for minutes, in the environment that is running now; tests/soak/test_installs.py does it",
    "bench": "measures for minutes; tests/unit/cli/test_bench.py runs it",
    "inspect": "tests/integration/test_inspect.py looks at each kind of file",
    "convert": "tests/integration/test_convert_cli.py and its neighbours convert each kind of source",
}
"""Commands of glmserve whose arguments are only parsed, and why."""


ASK_A_SERVER = ("task", "batch")
"""Commands of glmserve that ask the server at the usual address; here they are told where it is."""

FILES = {
    "questions.txt": "你好\n再见\n",
    "item.txt": "芯源科技完成1.2亿元A轮融资，由蓝海资本领投。",
    "in.jsonl": '"质量很好，推荐！"\n"再也不来了"\n',
    "requests.jsonl": '{"custom_id": "1", "method": "POST", "url": "/v1/completions", '
    '"body": {"prompt": "一", "max_tokens": 2}}',
    "examples.txt": "主题：晚霞\n文案：天边烧了一小会儿。",
}
"""What commands in the examples read."""


def blocks(*languages: str) -> list[Block]:
    """Return the examples in one of ``languages`` of all English pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [block for page in pages for block in Page(page).blocks if block.language in languages]


def name(value: object) -> str | None:
    """Return what a test of a block is called."""
    return f"{value.page}:{value.line}" if isinstance(value, Block) else None


def names_the_address(block: Block) -> bool:
    """Return whether a block says which server it calls."""
    return any(address in block.text for address in ADDRESSES)


def here(text: str, url: str) -> str:
    """Return an example with the server of the tests in it."""
    for address in ADDRESSES:
        text = text.replace(address, url)
    return text


def commands(block: Block) -> list[str]:
    """Return the commands of a block of the shell, without comments and prompts, each on one line."""
    joined = block.text.replace("\\\n", " ")
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run_in_shell(block: Block, url: str, folder: Path) -> str:
    """Run a block as it is printed, in an empty folder, with the programs of the page; return what it prints."""
    own = dict.fromkeys(("HOME", "LLM_USER_PATH", "HF_HOME"), str(folder))
    programs = os.pathsep.join((str(ROOT / ".venv-clients" / "openai3" / "bin"), os.environ["PATH"]))
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", **own, "PATH": programs}
    command = ["bash", "-euo", "pipefail", "-c", here(block.text, url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout
