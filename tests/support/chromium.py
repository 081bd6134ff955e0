"""The browser that the project's own files install: Chromium from npm, unpacked by `make install-test`."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_UNPACKED = Path(__file__).parents[1] / "page" / "node_modules" / ".browser"
_SYSTEM = ("chromium", "chromium-headless-shell")


@dataclass(frozen=True)
class Chromium:
    """How it is started."""

    path: str
    environment: Mapping[str, str]


def find_chromium() -> Chromium:
    """The unpacked one, or on processors that npm has none for, one of the system; skips where there is none."""
    if platform.machine() == "x86_64":
        assert _UNPACKED.is_dir(), f"{_UNPACKED} is missing: run make install-test"
        own = {"LD_LIBRARY_PATH": str(_UNPACKED / "lib"), "FONTCONFIG_FILE": str(_UNPACKED / "fonts.conf")}
        return Chromium(str(_UNPACKED / "chromium"), {**os.environ, **own})
    found = next(filter(None, map(shutil.which, _SYSTEM)), None)
    if found is None:
        pytest.skip(f"npm has no Chromium for {platform.machine()}, and none of {', '.join(_SYSTEM)} is installed")
    return Chromium(found, os.environ)
