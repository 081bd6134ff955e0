"""How a request for an answer ended. Pure."""

from dataclasses import dataclass
from enum import Enum

from glmserve.http.request_record import CLIENT_CLOSED, RequestRecord


class OutcomeKind(str, Enum):
    """The four ends of a request."""

    SUCCESS = "success"
    ABORTED = "aborted"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """An end and why."""

    end: OutcomeKind
    reason: str = ""
    """Of a refusal and a failure the code of the error; of a success why its answers ended."""


def outcome_of(record: RequestRecord) -> RequestOutcome:
    """Return how the request of ``record`` ended."""
    status = record.status
    if record.failed or (status is not None and status >= 500):
        return RequestOutcome(OutcomeKind.FAILED, record.refusal or "internal_error")
    if status is None or status == CLIENT_CLOSED or not record.complete:
        return RequestOutcome(OutcomeKind.ABORTED)
    if status >= 400:
        return RequestOutcome(OutcomeKind.REFUSED, record.refusal or f"http_{status}")
    cut = any(generation.cut for generation in record.generations)
    return RequestOutcome(OutcomeKind.SUCCESS, "length" if cut else "stop")
