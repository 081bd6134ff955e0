"""How many connections a server has, and which of them goes where one more comes."""

import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection that can be closed."""

    def hang_up(self) -> None:
        """Close at once."""


class Connections:
    """Connection limit. A connection with a request in progress is never closed for a new one.

    One owes a request from when it is opened, or was answered, until it has sent a whole one: it is idle, or slow. The
    one that began to do so longest ago goes first, which leaves honest callers all the time that the others let pass.
    """

    def __init__(self, most: int) -> None:
        """No connection is open."""
        self._most = most
        self._open: set[Connection] = set()
        self._owing: dict[Connection, None] = {}
        self._was_full = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Let ``connection`` in, which owes a request; False where all others are being answered."""
        if len(self._open) >= self._most:
            self._tell()
            if not self._owing:
                return False
            oldest = next(iter(self._owing))
            self.leave(oldest)
            oldest.hang_up()
        self._open.add(connection)
        self._owing[connection] = None
        return True

    def owes(self, connection: Connection) -> None:
        """It has been answered, or begins with a request."""
        if connection in self._open:
            self._owing.pop(connection, None)
            self._owing[connection] = None

    def asked(self, connection: Connection) -> None:
        """It has sent a whole request."""
        self._owing.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """It is closed; one that has left may do so again."""
        self._open.discard(connection)
        self._owing.pop(connection, None)
        if len(self._open) < self._most * 0.9:
            self._was_full = False

    def _tell(self) -> None:
        if not self._was_full:
            log.warning("%d connections are open (--max-connections); idle ones are closed for new ones", self._most)
        self._was_full = True
