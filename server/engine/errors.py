"""Errors between a request and its tokens.

EngineError
├── RequestRejected          never admitted; nothing was computed
│   ├── QueueFull            too many are waiting: try again later
│   │   └── QueueTooSlow     it would wait for longer than it may take
│   ├── PromptTooLong        can never fit, whatever the load
│   ├── UnknownToken         names a token that the model does not have
│   └── GrammarRejected      its grammar cannot be used
├── EngineUnavailable        no engine to take the request just now
├── EngineDied               the engine process ended, and no other one may go on with the request
├── DecodeFailed             llama.cpp refused the batch that held this request
├── GrammarFailed            its grammar reached a limit while the answer was written
├── SlowConsumer            nobody took what was computed for this request
└── ModelLoadError           the model file could not be loaded
    └── SelfTestFailed       it was loaded, but llama.cpp computes wrong with it
"""


class EngineError(Exception):
    """Root of everything the engine reports."""


class RequestRejected(EngineError):
    """The request was not admitted."""


class QueueFull(RequestRejected):
    """The bounded queue is full."""

    def __init__(self, waiting: int, retry_after: int = 1) -> None:
        """``waiting`` requests are queued already; ``retry_after`` is in seconds."""
        super().__init__(f"{waiting} requests are waiting already, which is the limit; try again in {retry_after} s")
        self.waiting = waiting
        self.retry_after = retry_after


class QueueTooSlow(QueueFull):
    """The request would wait for longer than it may take, so it need not begin."""

    def __init__(self, wait: float, timeout_s: float, retry_after: int) -> None:
        """All are in seconds."""
        RequestRejected.__init__(
            self,
            f"this request would wait for some {wait:.0f} s and has {timeout_s:.0f} s in all; "
            f"try again in {retry_after} s",
        )
        self.retry_after = retry_after


class PromptTooLong(RequestRejected):
    """Prompt and answer do not fit into the context, under any load."""

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        """Both figures are in tokens."""
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context holds {context_length}, "
            "of which at least one must be left for the answer; shorten the prompt"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class UnknownToken(RequestRejected):
    """A bias is on a token that is not in the vocabulary."""

    def __init__(self, token_id: int, vocab_size: int) -> None:
        super().__init__(f"{token_id} is no token of this model, which has the ids 0 to {vocab_size - 1}")


class GrammarRejected(RequestRejected):
    """The grammar that the answer has to follow is wrong, not supported, or too much work."""

    def __init__(self, reason: str) -> None:
        """``reason`` is the fault of the grammar."""
        super().__init__(f"the grammar of the answer cannot be used: {reason}")
        self.reason = reason


class EngineUnavailable(EngineError):
    """The engine is loading, restarting, failed or stopped."""


class EngineDied(EngineError):
    """The engine process ended while the request was running, and it was not resumed."""


class DecodeFailed(EngineError):
    """llama.cpp failed to decode this request's tokens."""


class GrammarFailed(EngineError):
    """The grammar of this request reached a limit of cost while its answer was written, or came to a dead end."""


class SlowConsumer(EngineError):
    """The outputs of the request were not read, so it was ended."""

    def __init__(self, unread: int) -> None:
        """``unread`` is how many outputs wait."""
        super().__init__(f"the reply was not read: it was {unread} tokens behind, so the request was ended")
        self.unread = unread


class ModelLoadError(EngineError):
    """The model file could not be loaded; the message says why, and how to proceed."""


class SelfTestFailed(ModelLoadError):
    """The model was loaded, but llama.cpp computes wrong with it on this machine."""
