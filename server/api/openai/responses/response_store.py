"""Completed responses, stored in memory for use as previous_response_id. Pure."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response, as JSON texts: small, of a known size, and nothing in them can be changed by mistake."""

    id: str
    reply: bytes
    """The response object."""
    inputs: tuple[bytes, ...]
    """All items that the model was given, including the items of the responses before it."""

    @property
    def size(self) -> int:
        """Size in bytes, including items shared with earlier responses."""
        return len(self.reply) + sum(map(len, self.inputs))


class ResponseStore:
    """Stores responses within bounds; the least recently used go first.

    Each belongs to an owner, and to every other one it does not exist.
    """

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        """Keep at most ``max_responses``; a response larger than ``max_bytes`` is not stored."""
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._stored: OrderedDict[tuple[str, str], StoredResponse] = OrderedDict()
        self._bytes = 0

    def put(self, owner: str, response: StoredResponse) -> None:
        """Keep ``response``, whose id is new."""
        if response.size > self._max_bytes or not self._max_responses:
            return
        self._stored[owner, response.id] = response
        self._bytes += response.size
        while len(self._stored) > self._max_responses or self._bytes > self._max_bytes:
            _, oldest = self._stored.popitem(last=False)
            self._bytes -= oldest.size

    def get(self, owner: str, response_id: str) -> StoredResponse | None:
        """Return the response of that id, which counts as a use, or None where ``owner`` has none."""
        key = (owner, response_id)
        if key not in self._stored:
            return None
        self._stored.move_to_end(key)
        return self._stored[key]

    def delete(self, owner: str, response_id: str) -> bool:
        """Delete the response of that id. Return whether ``owner`` had one."""
        forgotten = self._stored.pop((owner, response_id), None)
        if forgotten is None:
            return False
        self._bytes -= forgotten.size
        return True
