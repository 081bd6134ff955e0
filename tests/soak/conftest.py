"""What can be said to ``make soak``, by ``SOAK_ARGS``."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requests", type=int, default=50_000, help="of the long run")
    parser.addoption("--minutes", type=float, default=40, help="after which the long run is cut short")
    parser.addoption("--seed", type=int, default=1, help="of the plan of the long run")
    parser.addoption("--packages", help="folder of the wheel and the sdist to install; built where not given")
