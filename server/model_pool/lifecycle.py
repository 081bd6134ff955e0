"""When a model is loaded and when it is unloaded. Pure: it is told the time, and does nothing itself.

STARTING ──► READY ──► UNLOADING ──► IDLE ──► LOADING ──► READY …
    └──────────────► FAILED ◄──────────────────┘   FAILED ──► LOADING, on a request some time later

Rule 1: a request is counted from its arrival to its end, in every state of the model.
Rule 2: only a model that is READY and has no request is unloaded, so none is unloaded from under a request.
Rule 3: one that fails is not tried again by every request, but by the first one after RETRY_SECONDS.
"""

from enum import Enum, auto

from glmserve.engine.errors import EngineError

RETRY_SECONDS = 30.0
"""How long a failed load is reported without being tried again: loading a large file for nothing takes a while."""


class Phase(Enum):
    """Where a model stands."""

    STARTING = auto()
    """Loaded with the server: requests are rejected until then, rather than kept waiting."""
    IDLE = auto()
    LOADING = auto()
    """Loaded because of a request: requests wait."""
    READY = auto()
    UNLOADING = auto()
    FAILED = auto()
    STOPPED = auto()
    """For good: the server ends."""


class Lifecycle:
    """The state of one model, and the decisions that follow from it. Times are in seconds of any one clock."""

    def __init__(self, *, on_first_use: bool, idle_seconds: float) -> None:
        """``idle_seconds`` without a request unload the model; 0 never does."""
        self.phase = Phase.IDLE if on_first_use else Phase.STARTING
        self.failure: EngineError | None = None
        self._idle_seconds = idle_seconds
        self._requests = 0
        self._since = 0.0
        """When it was last ready and used, or when loading failed."""

    def enter(self) -> None:
        """A request has arrived."""
        self._requests += 1

    def leave(self, now: float) -> None:
        """A request has ended."""
        self._requests -= 1
        if self.phase is Phase.READY:
            self._since = now

    def wants_load(self, now: float) -> bool:
        """Whether the request that asks this must have the model loaded."""
        return self.phase is Phase.IDLE or (self.phase is Phase.FAILED and now - self._since >= RETRY_SECONDS)

    def unload_in(self, now: float) -> float | None:
        """Return the seconds until the model is to be unloaded, 0 where it is due, None where it stays for now."""
        if self.phase is not Phase.READY or self._requests or not self._idle_seconds:
            return None
        return max(0.0, self._idle_seconds - (now - self._since))

    def loading(self) -> None:
        """Loading has begun, because of a request."""
        self.phase = Phase.LOADING

    def loaded(self, now: float) -> None:
        """The model takes requests."""
        self.phase, self.failure, self._since = Phase.READY, None, now

    def failed(self, error: EngineError, now: float) -> None:
        """The model could not be loaded, or its engine has given up."""
        self.phase, self.failure, self._since = Phase.FAILED, error, now

    def unloading(self) -> None:
        """Unloading has begun."""
        self.phase = Phase.UNLOADING

    def unloaded(self) -> None:
        """Nothing is loaded."""
        self.phase = Phase.IDLE

    def stopped(self, error: EngineError) -> None:
        """The server ends; ``error`` is the error of later requests."""
        self.phase, self.failure = Phase.STOPPED, error
