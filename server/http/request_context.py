"""The facts of a request that its generations need, as an argument: nothing below the routers looks a request up."""

import math
import time
from dataclasses import dataclass, field
from typing import Protocol

from glmserve.http.request_progress import RequestProgress


class RequestObserver(Protocol):
    """Receives the generations of a request."""

    def begin(self, progress: RequestProgress) -> None:
        """An engine has taken a prompt, whose answers are counted in ``progress``."""

    def relax(self, part: str) -> None:
        """The grammar does not enforce ``part`` of a schema."""


class NoObserver:
    """Records nothing."""

    def begin(self, progress: RequestProgress) -> None:
        """Do nothing."""

    def relax(self, part: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request as its generations know it. Routers make it with ``RequestRecord.context``."""

    caller: str = ""
    """Identity for fair scheduling: the API key, or the address if no keys are set."""
    time_limit: float = 0.0
    """Seconds that the request may take; 0 is any number."""
    expires: float = math.inf
    """When they are over, on the monotonic clock."""
    prefix_owner: str = ""
    """Key that alone may reuse the prompt's cells in the prefix cache; empty if keys share them."""
    body_bytes: int = 0
    """Size of the request: work on a large one is done beside the event loop."""
    log_texts: bool = False
    """Prompts and answers may be logged."""
    observer: RequestObserver = field(default_factory=NoObserver)

    def seconds_left(self) -> float:
        """Return the remaining time of the limit in seconds; infinity without a limit."""
        return max(0.0, self.expires - time.monotonic())
