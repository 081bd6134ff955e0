"""How a request for an answer ended. Pure."""

from dataclasses import dataclass
from enum import Enum

from server.request_record import RequestRecord

_CLIENT_CLOSED = 499


class End(str, Enum):
    """The four ends of a request."""

    SUCCESS = "success"
    ABORTED = "aborted"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end and why."""

    end: End
    reason: str = ""
    """Of a refusal and a failure the code of the error; of a success why its answers ended."""


def outcome_of(record: RequestRecord, status: int | None, *, complete: bool) -> Outcome:
    """Return how a request ended.

    Args:
        record: what is known of it.
        status: of the reply; None where there was none.
        complete: whether the reply was sent to its end.
    """
    if record.failed or (status is not None and status >= 500):
        return Outcome(End.FAILED, record.refusal or "internal_error")
    if status is None or status == _CLIENT_CLOSED or not complete:
        return Outcome(End.ABORTED)
    if status >= 400:
        return Outcome(End.REFUSED, record.refusal or f"http_{status}")
    cut = any(generation.cut for generation in record.generations)
    return Outcome(End.SUCCESS, "length" if cut else "stop")
