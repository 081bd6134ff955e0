"""The command ``glmserve``, with engines that fail as a plan says: ``python -m tests.support.faulty_server serve``."""

from functools import partial
from unittest.mock import patch

from glmserve.bootstrap import build
from glmserve.cli.main import main
from glmserve.engine.client.client import EngineClient
from tests.support.faults import load_faulty

if __name__ == "__main__":
    with patch.object(build, "EngineClient", partial(EngineClient, load=load_faulty)):
        main()
