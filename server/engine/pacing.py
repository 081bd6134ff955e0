"""How many tokens a step may have so that nobody who is streaming feels it. Pure: times are passed in."""

MIN_PIECE = 16
"""Prompt tokens below which a batch wastes most of its time (measured: 16 run at 0.9 of the full rate)."""

_FORGET = 0.25
"""Weight of the newest observation in the moving averages."""


class StepPacer:
    """Learns what decoding and prompt tokens cost, and sizes the next step's budget.

    The budget of a step is time, not tokens: on two cores 512 prompt tokens take five seconds.
    """

    def __init__(self, target_seconds: float, max_tokens: int) -> None:
        """Keep steps under ``target_seconds`` while somebody streams; never plan above ``max_tokens``."""
        self.target_seconds = target_seconds
        self._max_tokens = max_tokens
        self._decode_step = 0.0
        self._per_prompt_token = 0.0

    def budget(self, decoding: int) -> int:
        """Tokens for the next step, in which ``decoding`` sequences take one each."""
        if decoding == 0:
            return self._max_tokens
        if self._per_prompt_token == 0.0:
            piece = MIN_PIECE
        else:
            piece = int((self.target_seconds - self._decode_step) / self._per_prompt_token)
        return min(self._max_tokens, decoding + max(MIN_PIECE, piece))

    def observe(self, seconds: float, decoding: int, prompt_tokens: int) -> None:
        """Learn from a step that took ``seconds``."""
        if prompt_tokens == 0:
            self._decode_step = _mix(self._decode_step, seconds)
        elif prompt_tokens >= MIN_PIECE:
            own = seconds - (self._decode_step if decoding else 0.0)
            self._per_prompt_token = _mix(self._per_prompt_token, max(own, 0.0) / prompt_tokens)


def _mix(average: float, new: float) -> float:
    return new if average == 0.0 else average + _FORGET * (new - average)
