"""How often a process is started again, and after which delay. Pure."""

_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before the first, second, … restart in a row; the last one repeats."""


class Restarts:
    """Counts the tries that failed in a row."""

    def __init__(self, most_in_a_row: int) -> None:
        """Allow ``most_in_a_row`` restarts without an answered request between them."""
        self._most_in_a_row = most_in_a_row
        self._in_a_row = 0
        self.total = 0
        self.has_loaded = False
        """Whether a process has loaded the model: a model that never loaded is not worth another try."""

    def reset(self) -> None:
        """Reset the count: the engine was stopped."""
        self._in_a_row, self.has_loaded = 0, False

    def loaded(self) -> None:
        """A process has loaded the model."""
        self.has_loaded = True

    def answered(self) -> None:
        """A process has computed something, so the next failure is the first one in a row."""
        self._in_a_row = 0

    def next_delay(self, *, anyway: bool = False) -> float | None:
        """Return the seconds before the next try, None if there is none. ``anyway``: even ahead of the first load."""
        if self._in_a_row >= self._most_in_a_row or not (anyway or self.has_loaded):
            return None
        delay = _BACKOFF_SECONDS[min(self._in_a_row, len(_BACKOFF_SECONDS) - 1)]
        self._in_a_row += 1
        self.total += 1
        return delay

    def in_words(self, problem: str) -> str:
        """Return ``problem`` with how often it was met."""
        return f"{problem}, {self._in_a_row + 1} times in a row" if self._in_a_row else problem
