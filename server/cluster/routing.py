"""Which replica gets a request: by the token ids of its prompt, with bounded load, as within one machine. Pure.

Each API process has a router of its own for each model. It remembers what it has sent itself; how busy a replica is
with requests of others it learns from the replica's count.
"""

from collections import Counter
from collections.abc import Mapping

from glmserve.cluster.messages import ReplicaCall
from glmserve.engine.group.prefix_router import PrefixRouter, PromptKey
from glmserve.engine.messages import Submit


class ReplicaChoice:
    """The requests that were sent to each replica and have not ended, and the prompts that it has cached."""

    def __init__(self) -> None:
        """There are no replicas."""
        self._router: PrefixRouter[str] = PrefixRouter()
        self._sent_to: dict[str, str] = {}
        """The replica of each request, by the id of the request."""
        self._load: Counter[str] = Counter()

    def replicas_are(self, cache_cells: Mapping[str, int]) -> None:
        """Note which replicas there are, with the size of each one's cache."""
        self._router.keep(cache_cells.keys())
        for replica, cells in cache_cells.items():
            self._router.resize(replica, cells)

    def order(self, call: ReplicaCall | None, counted: Mapping[str, int]) -> list[str]:
        """Return the replicas for a request, the best one first.

        Args:
            call: the request; None for one that is no prompt.
            counted: the replicas that may be asked, each with how many requests it has said to have.
        """
        loads = {replica: max(self._load[replica], count) for replica, count in counted.items()}
        rejected_by = frozenset[str]() if call is None else call.rejected_by
        return sorted(self._router.order(_key(call), loads), key=lambda replica: replica in rejected_by)

    def sent(self, request_id: str, replica: str, call: ReplicaCall | None) -> None:
        """Note that a request goes to ``replica``, in place of any that was noted before."""
        self.ended(request_id)
        self._sent_to[request_id] = replica
        self._load[replica] += 1
        if call is not None:
            self._router.note(replica, _key(call))

    def ended(self, request_id: str) -> None:
        """Note that a request has ended, or was not sent after all."""
        replica = self._sent_to.pop(request_id, None)
        if replica is not None:
            self._load[replica] -= 1
            self._load += Counter()  # without those that have none


def _key(call: ReplicaCall | None) -> PromptKey:
    if call is None or not isinstance(call.request, Submit):
        return PromptKey(())
    return PromptKey(call.request.prompt_ids, call.request.adapter, call.request.scope)
