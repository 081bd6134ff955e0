"""How many tokens a step may have so that nobody who is streaming feels it. Pure: times are passed in."""

ROWS = 16
"""Steps are a multiple of so many tokens. Two cores, 0.9B q4_0: 16, 32 and 48 tokens run at 131, 145 and 145 a second,
15 at 93, 24 at 124, 31 at 118, 64 and 128 at 125: ggml's kernels take rows by four, and its threads share them."""

MIN_PIECE = 8
"""Prompt tokens that a step has room for at least, so that prompts never stand still."""

UNWATCHED = 2
"""How much longer a step may be where nobody streams: who asks meanwhile waits for its end."""

LEAST_UNWATCHED = 64
"""Prompt tokens of such a step at least: from so many on, attention on the CPU takes tokens together (GGML_FA_TILE_Q),
which late in a prompt of 800 saves a tenth of the step."""

_FORGET = 0.25
"""Weight of the newest observation in the moving average."""


class StepPacer:
    """Learns what a token costs in a batch, and sizes the next step's budget.

    The budget of a step is time, not tokens: on two cores 512 prompt tokens take five seconds.
    """

    def __init__(self, target_seconds: float, max_tokens: int) -> None:
        """Keep steps near ``target_seconds`` while somebody streams; never plan above ``max_tokens``."""
        self.target_seconds = target_seconds
        self._max_tokens = max_tokens
        self._per_token = 0.0
        self._unwatched = max_tokens

    def budget(self, decoding: int) -> int:
        """Tokens for the next step, in which ``decoding`` sequences take one each."""
        if decoding == 0:
            return self._unwatched
        affordable = self.target_seconds / self._per_token if self._per_token else 0.0
        least = -(-(decoding + MIN_PIECE) // ROWS) * ROWS
        return min(self._max_tokens, max(least, round(affordable / ROWS) * ROWS))

    def observe(self, seconds: float, tokens: int) -> None:
        """Learn from a step of ``tokens`` that took ``seconds``; small ones say nothing of what a token costs."""
        if tokens < ROWS:
            return
        new = seconds / tokens
        self._per_token = new if self._per_token == 0.0 else self._per_token + _FORGET * (new - self._per_token)
        # In powers of two, and only where it is off by as much, so that a prompt is mostly computed in the same pieces.
        fits = UNWATCHED * self.target_seconds / self._per_token if self._per_token else self._max_tokens
        while self._unwatched > max(LEAST_UNWATCHED, 2 * fits):
            self._unwatched = max(LEAST_UNWATCHED, self._unwatched // 2)
        if self._unwatched < fits / 2:
            self._unwatched = min(self._max_tokens, 2 * self._unwatched)
