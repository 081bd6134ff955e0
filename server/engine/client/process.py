"""A worker process and the two threads that serve its pipe."""

import atexit
import logging
import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from glmserve.engine.child_process import start_shielded
from glmserve.engine.client.compute_modes import how_ended, is_crash
from glmserve.engine.config import EngineConfig
from glmserve.engine.messages import FromWorker, Shutdown, ToWorker
from glmserve.engine.worker.entry import RunnerFactory, run_engine

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
"""Time for a process to end before it is killed."""


class WorkerProcess:
    """Starts the child with spawn, never fork. The callbacks come from a thread of this object."""

    def __init__(
        self,
        config: EngineConfig,
        load: RunnerFactory,
        on_message: "Callable[[WorkerProcess, FromWorker], object]",
        on_end: "Callable[[WorkerProcess, str], object]",
    ) -> None:
        """Nothing is started yet.

        Args:
            config: what the process gets.
            load: the same.
            on_message: gets this object, and what the process says. An owner that drops this object when it has ended
                lets its file descriptors be closed with the last reference: callbacks must not hold it.
            on_end: gets this object and how the process ended, once, in words that follow "the engine process".
        """
        context = multiprocessing.get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        self._process = context.Process(
            target=run_engine, args=(self._theirs, config, load, level), name="glmserve-engine", daemon=True
        )
        self._outbox: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        self._on_message = on_message
        self._on_end = on_end
        self._killed_how = ""

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self._process.pid

    @property
    def crashed(self) -> bool:
        """Whether a fault in its own code ended it."""
        return not self._killed_how and is_crash(self._process.exitcode)

    def start(self) -> None:
        """Start the process and its threads.

        Raises:
            OSError, RuntimeError: the system gives no process, memory, file or thread; nothing is left running.
        """
        try:
            start_shielded(self._process)
            atexit.register(self.kill)  # multiprocessing would send a SIGTERM at exit, and wait
            for target in (self._read, self._write):
                threading.Thread(target=target, name=f"engine-pipe-{target.__name__}", daemon=True).start()
        except BaseException:
            self.stop(loaded=False)
            raise
        finally:
            self._theirs.close()  # or the end of the process would not be an EOF here

    def send(self, message: ToWorker) -> None:
        """Hand ``message`` to the writing thread; never blocks."""
        self._outbox.put(message)

    def stop(self, *, loaded: bool = True) -> None:
        """End the process, by force if it does not listen, which it does once it has ``loaded``. Blocks."""
        if self._process.pid is None:
            return  # it was not started
        self.send(Shutdown())
        self._process.join(_STOP_SECONDS if loaded else 0)
        if self._process.is_alive():
            self.kill()
            self._process.join()

    def kill(self, how: str = "") -> None:
        """End the process by force; ``how``, where given, is the argument of ``on_end``."""
        self._killed_how = how
        self._process.kill()

    def _read(self) -> None:
        try:
            while True:
                self._on_message(self, self._connection.recv())
        except (EOFError, OSError):
            pass
        except RuntimeError:  # the event loop that listened is closed
            self._process.kill()
        except Exception as error:  # unpickling raises anything
            log.exception("the engine process sent an invalid message")
            self.kill(f"sent an invalid message ({type(error).__name__}) and was killed")
        self._process.join(_STOP_SECONDS)  # it may have closed its end and go on
        self._process.kill()
        self._process.join()
        atexit.unregister(self.kill)
        self._outbox.put(None)
        try:
            self._on_end(self, self._killed_how or how_ended(self._process.exitcode))
        except RuntimeError:
            log.debug("the engine ended after its event loop")

    def _write(self) -> None:
        connection: Connection = self._connection
        while (message := self._outbox.get()) is not None:
            try:
                connection.send(message)
            except OSError:
                return  # the reading thread sees the end and reports it
            except Exception as error:  # pickling raises anything
                log.exception("a message to the engine process could not be sent")
                self.kill(f"could not be sent a message ({type(error).__name__}) and was killed")
                return
        connection.close()
