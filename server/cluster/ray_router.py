"""The router that Ray Serve asks for a replica: ``ReplicaChoice`` in the form of Ray's extension point."""

from collections.abc import Iterable

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from glmserve.cluster.messages import ReplicaCall
from glmserve.cluster.routing import ReplicaChoice

CELLS = "cache_cells"
"""Key of a replica's metadata: the tokens that its cache has room for."""


class TokenRouter(RequestRouter):
    """Sends each prompt to the replica that has the most of its tokens cached, within a bound of its load."""

    def initialize_state(self, **_: object) -> None:
        """Begin with nothing known."""
        self._choice = ReplicaChoice()
        self._shown: dict[str, int] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Note which replicas there are."""
        self._shown = {
            replica.replica_id.unique_id: int(replica.replica_metadata.get(CELLS, 0)) for replica in replicas
        }
        self._choice.replicas_are(self._shown)
        super().update_replicas(replicas)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Drop the cached prefixes of a replica."""
        self._shown.pop(replica_id.unique_id, None)
        self._choice.replicas_are(self._shown)
        super().on_replica_actor_died(replica_id)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the candidates, the best one first and each in a rank of its own."""
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        counts = self.replica_queue_len_cache
        counted = {name: counts.get(replica.replica_id) or 0 for name, replica in by_name.items()}
        call = _call(pending_request)
        order = self._choice.order(call, counted)
        if pending_request is not None and order:
            # Before it is sent, so that the next one, chosen in the same moment, knows.
            request_id = pending_request.metadata.internal_request_id
            self._choice.sent(request_id, order[0], call)
            pending_request.future.add_done_callback(
                lambda future: self._choice.ended(request_id) if future.cancelled() else None
            )
        return [[by_name[name]] for name in order]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: object) -> None:  # noqa: ARG002
        """Note where a request went after all."""
        request_id = pending_request.metadata.internal_request_id
        self._choice.sent(request_id, replica_id.unique_id, _call(pending_request))

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:  # noqa: ARG002
        """Note that a request has ended."""
        self._choice.ended(internal_request_id)


def _call(request: PendingRequest | None) -> ReplicaCall | None:
    arguments: Iterable[object] = () if request is None else request.args
    return next((argument for argument in arguments if isinstance(argument, ReplicaCall)), None)
