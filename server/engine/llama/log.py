"""llama.cpp's own messages, as records of Python's logging."""

import logging
from ctypes import c_void_p

import llama_cpp

log = logging.getLogger("glmserve.engine.llama_cpp")

_LEVELS = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
"""enum ggml_log_level of ggml.h. Its INFO (2) is a page of text at every load, which is DEBUG to us."""


_HARMLESS = ("possible training context overflow",)
"""Warnings that do not hold here: the context is the cells of all sequences, and each is kept to its own length."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _receive(level: int, text: bytes, _user_data: c_void_p) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if line and level in _LEVELS and not any(harmless in line for harmless in _HARMLESS):
        log.log(_LEVELS[level], "%s", line)


def route_log() -> None:
    """Send llama.cpp's messages to logging, for the rest of the process's life."""
    llama_cpp.llama_log_set(_receive, None)
