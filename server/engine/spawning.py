"""Starting a child process that survives signals to the parent's group, but never the parent."""

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess

log = logging.getLogger(__name__)

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A terminal or systemd sends these to all processes of a service. The parent alone decides what they mean."""


def start_shielded(process: SpawnProcess) -> None:
    """Start ``process`` so that Ctrl-C and SIGTERM never reach it, not even while Python is starting there.

    Raises:
        OSError: the system gives no process, memory or file for it.
    """
    _leave_removed_folder()
    resource_tracker.ensure_running()  # or starting the process would start it, and that lets the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_removed_folder() -> None:
    """Leave a working directory that was removed: multiprocessing reads its path, and no process would start."""
    try:
        os.getcwd()  # noqa: PTH109 - what multiprocessing calls
    except FileNotFoundError:
        log.warning("the working directory was removed; the server continues in / (relative paths no longer work)")
        os.chdir("/")


def end_with_parent() -> None:
    """In the child: end in any state as soon as the parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
