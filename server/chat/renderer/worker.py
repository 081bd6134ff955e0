"""The child's side: compiles one template, then renders conversations, with a limit on its memory."""

import json
import signal
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.prompts.template.marks import TemplateFault
from glmserve.chat.prompts.template.rendering import Template, TemplateInput, TemplateSource, packed_pieces
from glmserve.engine.child_process import ENDING_SIGNALS, end_with_parent

MEMORY_BYTES = 512 << 20
"""Address space that rendering may use in addition to the process's own."""


def run(connection: Connection, source: TemplateSource) -> None:
    """Entry point of the process: answer each conversation with its prompt, or with what is wrong."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    _limit_memory()
    try:
        template = Template(source, lambda: datetime.now().astimezone())
    except (TemplateFault, MemoryError) as fault:
        _answer(connection, fault=str(fault) or "it needs too much memory")
        return
    _answer(connection)
    with suppress(EOFError):
        while True:
            _render(connection, template, connection.recv_bytes())


def _render(connection: Connection, template: Template, request: bytes) -> None:
    try:
        _answer(connection, pieces=packed_pieces(template.render(TemplateInput.unpacked(request))))
    except PromptError as refusal:
        _answer(connection, refusal=str(refusal))
    except (MemoryError, RecursionError):
        _answer(connection, refusal="the model's chat template needs too much memory for it")


def _answer(connection: Connection, **said: object) -> None:
    connection.send_bytes(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))


def _limit_memory() -> None:
    import resource  # noqa: PLC0415 - not on every system

    used = 0
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, wanted in ((resource.RLIMIT_AS, used + MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):
            most = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
