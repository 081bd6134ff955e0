"""The parent's side of the process that checks grammars: it is started when it is needed, and replaced when it dies."""

import logging
from multiprocessing.connection import Connection
from pathlib import Path

from glmserve.engine.child_process import HelperProcess, start_helper
from glmserve.engine.client.grammar_validator.worker import Verdict, run
from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.params import Grammar

log = logging.getLogger(__name__)

_TRIES = 2
_WALL_SECONDS = 30.0


class GrammarProcess:
    """Blocks, so it is called in a thread: one at a time."""

    def __init__(self, model_path: Path, end_tokens: tuple[str, ...] = ()) -> None:
        """``model_path`` is a GGUF that the engine has loaded, with these ``end_tokens``."""
        self._path, self._end_tokens = model_path, end_tokens
        self._helper: HelperProcess | None = None
        self._ended = False

    def check(self, grammar: Grammar) -> Verdict:
        """Return the verdict on ``grammar``.

        Raises:
            EngineUnavailable: that could not be found out.
        """
        problem = ""
        for _ in range(_TRIES):
            connection = self._connected()
            try:
                connection.send(grammar)
                if not connection.poll(_WALL_SECONDS):
                    self.close()
                    problem = f"no answer within {_WALL_SECONDS:g} s"
                    break
                verdict = connection.recv()
            except (EOFError, OSError):
                self.close()
                problem = "its process died"
                continue
            assert isinstance(verdict, Verdict), verdict
            if not verdict.failure:
                return verdict
            problem = verdict.failure
        raise EngineUnavailable(f"the grammar of the answer could not be checked: {problem}; try again")

    def end(self) -> None:
        """Kill the process, from another thread say: a check that runs fails at once, and none begins any more."""
        self._ended = True
        if (helper := self._helper) is not None:
            helper.process.kill()

    def close(self) -> None:
        """Kill the process and free its resources."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _connected(self) -> Connection:
        """Return the pipe to a process that works. Raises EngineUnavailable where none can be started."""
        if self._ended:
            raise EngineUnavailable("the grammar validator process was killed")
        if self._helper is not None and not self._helper.process.is_alive():
            self.close()  # it died while it had nothing to do
        if self._helper is None:
            try:
                self._helper = start_helper(run, self._path, self._end_tokens, name="glmserve-grammars")
                self._wait_until_it_works(self._helper.connection)
            except (EOFError, OSError, RuntimeError, MemoryError) as error:
                self.close()
                problem = f"the grammar validator process could not be started: {str(error) or 'it ended'}"
                log.error("%s", problem)
                raise EngineUnavailable(problem) from None
        return self._helper.connection

    def _wait_until_it_works(self, connection: Connection) -> None:
        if not connection.poll(_WALL_SECONDS):
            raise EOFError
        connection.recv()
