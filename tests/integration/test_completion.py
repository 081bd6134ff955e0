"""Completion as a real shell asks for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from glmserve.cli.main import main

BIN = Path(sys.executable).parent
COMPLETE = """
eval "$(glmserve completion bash)"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
{add_empty}
_glmserve_completion glmserve "${{COMP_WORDS[COMP_CWORD]}}" glmserve 2> /dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(line: str, cache: Path) -> set[str]:
    """What bash offers after ``line``."""
    empty = 'COMP_WORDS+=(""); COMP_CWORD=$(( COMP_CWORD + 1 ))' if line.endswith(" ") else ""
    script = COMPLETE.format(words=line, add_empty=empty)
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "GLMSERVE_CACHE_DIR": str(cache)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60, env=environ)
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("glmserve do", {"doctor"}),
        ("glmserve serve --log-f", {"--log-format"}),
        ("glmserve serve --log-format ", {"text", "json"}),
        ("glmserve pull chatglm2-6b-", {"chatglm2-6b-32k", "chatglm2-6b-int4"}),
        ("glmserve serve our-", {"our-glm"}),
        ("glmserve chat --stat", {"--stats"}),
    ],
)
def test_bash_completes_commands_flags_values_and_models(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "our-glm.q8_0.gguf").touch()
    assert complete(line, tmp_path) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_other_shells_run_is_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_GLMSERVE_COMPLETE={shell}_complete" in result.output
