"""Examples of programs that take half a minute to start, run as the pages print them."""

from pathlib import Path

import pytest

from tests.docs.conftest import documented
from tests.docs.examples import RUN_IN_SOAK, blocks, name, run_in_shell
from tests.docs.markdown import Block

__all__ = ["documented"]


@pytest.mark.parametrize("block", [each for each in blocks("bash") if RUN_IN_SOAK.search(each.text)], ids=name)
def test_a_block_for_the_shell_runs(block: Block, documented: str, tmp_path: Path) -> None:
    assert run_in_shell(block, documented, tmp_path).strip()
