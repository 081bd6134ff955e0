"""Callers who end their side of a connection: do they still wait for the answer, or are they gone?"""

import contextlib
import select
import socket


def is_reset(connection: socket.socket) -> bool:
    """Return whether the peer rejected sent bytes, as it does once it reads no more."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(connection.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
    return True
