"""The engine's modules are imported in its process alone: a start of the server does without them."""

import subprocess
import sys


def test_the_client_of_an_engine_does_not_import_what_only_the_engine_needs() -> None:
    program = "import sys, glmserve.engine.client.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "glmserve.engine.client.process" in loaded
    of_the_engine = ("glmserve.engine.worker.main", "glmserve.engine.scheduler", "glmserve.engine.speculative")
    assert not [name for name in loaded if name.startswith(of_the_engine)]
