"""What is known of the HTTP request that is being answered, for everybody who has to do with it.

Logging and the door to generation are far from the HTTP layer, so the record is found through a context variable.
Where there is none, as in a test of a part, everybody gets a fresh one.
"""

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may ask for; 0 is as much as it likes."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Of prompts and answers together."""
    concurrent: int = 0
    """Requests at once."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One HTTP request, filled in while it is answered."""

    id: str = "-"
    """As the reply's X-Request-Id says."""
    arrived: float = field(default_factory=time.monotonic)
    """On the monotonic clock, in seconds."""
    key: str = ""
    """Id of the API key that it came with, which is no secret; empty where the server has no keys."""
    limits: Limits | None = None
    """Those of the key."""
    prompt_tokens: int = 0
    """Of the prompts that an engine has taken so far."""
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens that it has had so far."""
        return self.prompt_tokens + self.completion_tokens


_current: ContextVar[RequestRecord] = ContextVar("request_record")


def current_request() -> RequestRecord:
    """Return the record of the request that the running task answers."""
    return _current.get(None) or RequestRecord()


def enter_request(record: RequestRecord) -> None:
    """Make ``record`` the current one of this task and of all that it starts."""
    _current.set(record)


class RequestIdFilter(logging.Filter):
    """Gives every line of the log the ``request_id`` that it is about; "-" where it is about none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete ``record``; keep it in any case."""
        record.request_id = current_request().id
        return True
