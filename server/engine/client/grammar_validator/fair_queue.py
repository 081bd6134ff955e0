"""A bounded queue that serves its callers in turn, each with one item per round. Pure."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from glmserve.engine.errors import QueueFull

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """Round robin over callers: an item waits for one item of each other caller, and for its own caller's earlier ones.

    The length is bounded for each caller. The total is bounded too: past it, only callers with nothing queued may add.
    """

    def __init__(self, per_caller: int, total: int) -> None:
        """``per_caller`` and ``total`` are maximum lengths."""
        self._per_caller = per_caller
        self._total = total
        self._items: OrderedDict[str, deque[_Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def add(self, caller: str, item: _Item) -> None:
        """Append ``item``. Raises QueueFull."""
        queued = len(self._items.get(caller, ()))
        if queued >= self._per_caller or (queued and len(self) >= self._total):
            raise QueueFull(queued)
        self._items.setdefault(caller, deque()).append(item)

    def take(self) -> _Item | None:
        """Remove and return the next item, or None when the queue is empty."""
        if not self._items:
            return None
        caller, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[caller] = items
        return item

    def discard(self, caller: str, item: _Item) -> None:
        """Remove ``item`` if it is still queued."""
        items = self._items.get(caller)
        if items is None or item not in items:
            return
        items.remove(item)
        if not items:
            del self._items[caller]

    def drain(self) -> list[_Item]:
        """Remove and return everything."""
        items = [item for queued in self._items.values() for item in queued]
        self._items.clear()
        return items
