"""The process that renders chat templates, which come with model files and may loop or grow without end.

It compiles one template, then renders conversations, with a limit on its memory. The server's side starts it, sends it
conversations, and kills it where one takes too long.
"""

import json
import logging
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.prompts.template.marks import Piece, TemplateFault
from glmserve.chat.prompts.template.rendering import (
    Template,
    TemplateInput,
    TemplateSource,
    packed_pieces,
    unpacked_pieces,
)
from glmserve.engine.child_process import ENDING_SIGNALS, HelperProcess, end_with_parent, start_helper
from glmserve.engine.errors import EngineUnavailable

MEMORY_BYTES = 512 << 20
"""Address space that rendering may use in addition to the process's own."""


def run_renderer(connection: Connection, source: TemplateSource) -> None:
    """Entry point of the process: answer each conversation with its prompt, or with its fault."""
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
    except PromptError as rejection:
        _answer(connection, rejection=str(rejection))
    except (MemoryError, RecursionError):
        _answer(connection, rejection="the model's chat template needs too much memory for it")


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


log = logging.getLogger(__name__)

RENDER_SECONDS = 10.0
"""Limit of one rendering, which takes some milliseconds."""
_START_SECONDS = 60.0


class TemplateRenderer:
    """Renders one template in a process of its own. Blocks, so it is called in a thread; one conversation at a time."""

    def __init__(self, source: TemplateSource, seconds: float = RENDER_SECONDS) -> None:
        """Start nothing yet; ``seconds`` is the limit of one rendering."""
        self._source = source
        self._seconds = seconds
        self._turn = threading.Lock()
        self._helper: HelperProcess | None = None

    def render(self, given: TemplateInput) -> tuple[Piece, ...]:
        """Return the prompt.

        Raises:
            PromptError: the template rejects the conversation, fails on it, or needs too much time or memory for it.
            TemplateFault: it cannot be compiled.
            EngineUnavailable: no process can be started.
            UnicodeEncodeError: a text has lone surrogates.
        """
        request = given.packed()
        with self._turn:
            connection = self._connected()
            try:
                connection.send_bytes(request)
                said = self._answer(connection, self._seconds)
            except (EOFError, OSError):
                self._stop()
                raise PromptError("the model's chat template needs too much memory for it") from None
            if said is None:
                self._stop()
                log.warning("the chat template did not end within %g s; its process was killed", self._seconds)
                raise PromptError(f"the model's chat template does not end within {self._seconds:g} s with it")
        if isinstance(rejection := said.get("rejection"), str):
            raise PromptError(rejection)
        pieces = said["pieces"]
        assert isinstance(pieces, list)
        return unpacked_pieces(pieces)

    def close(self) -> None:
        """Kill the process; the next rendering starts another one."""
        with self._turn:
            self._stop()

    def _connected(self) -> Connection:
        if self._helper is not None and not self._helper.process.is_alive():
            self._stop()
        if self._helper is None:
            try:
                self._helper = start_helper(run_renderer, self._source, name="glmserve-template")
                said = self._answer(self._helper.connection, _START_SECONDS)
            except (EOFError, OSError, RuntimeError, MemoryError) as error:
                self._stop()
                raise EngineUnavailable(
                    f"the process that renders the chat template could not be started: {str(error) or 'it ended'}"
                ) from None
            if said is None or "fault" in said:
                self._stop()
                raise TemplateFault("it cannot be compiled in time" if said is None else str(said["fault"]))
        return self._helper.connection

    def _stop(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    @staticmethod
    def _answer(connection: Connection, seconds: float) -> Mapping[str, object] | None:
        """Return the reply of the process; None where there is none in time."""
        if not connection.poll(seconds):
            return None
        said = json.loads(connection.recv_bytes())
        assert isinstance(said, dict), said
        return said
