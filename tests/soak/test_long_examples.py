"""Examples of programs that take half a minute to start, run as the pages print them."""

from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, running_server
from tests.docs.conftest import documented
from tests.docs.examples import RUN_IN_SOAK, blocks, name, run_in_shell
from tests.docs.markdown import Block, Page
from tests.docs.test_first_steps import GLMSERVE, folder, run, steps

__all__ = ["documented", "folder"]


@pytest.mark.parametrize("block", [each for each in blocks("bash") if RUN_IN_SOAK.search(each.text)], ids=name)
def test_a_block_for_the_shell_runs(block: Block, documented: str, tmp_path: Path) -> None:
    assert run_in_shell(block, documented, tmp_path).strip()


def test_the_commands_of_the_readme_lead_to_answers(folder: Path) -> None:
    commands = steps(Page(ROOT / "README.md"), folder)
    assert [words[0] for words in commands] == ["serve", "convert", "serve"]
    for command, *words in commands:
        if command != "serve":
            run([GLMSERVE.strip(), command, *words], folder)
            continue
        with running_server(*words, log=folder / "log", folder=folder) as (url, _):
            body = {"model": "chatglm2-6b", "messages": [{"role": "user", "content": "你好"}]}
            assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
