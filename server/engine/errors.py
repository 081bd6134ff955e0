"""Errors between a request and its tokens.

EngineError
├── RequestRejected          never admitted; nothing was computed
│   ├── QueueFull            the waiting queue is full
│   │   └── QueueTooSlow     its expected wait exceeds its timeout
│   ├── PromptTooLong        does not fit into the context
│   ├── UnknownToken         names a token id outside of the vocabulary
│   └── GrammarRejected      its grammar cannot be used
├── EngineUnavailable        the engine is loading, restarting, failed or stopped
├── EngineDied               the engine process ended, and the request was not resumed
├── DecodeFailed             llama.cpp rejected this request's batch
├── GrammarFailed            its grammar reached a limit while the answer was written
├── SlowConsumer             the client did not read the outputs
└── ModelLoadError           the model file could not be loaded
    └── SelfTestFailed       llama.cpp computes wrong results with it
"""


class EngineError(Exception):
    """Root of the engine's errors."""


class RequestRejected(EngineError):
    """The request was not admitted."""


class QueueFull(RequestRejected):
    """The bounded queue is full."""

    def __init__(self, waiting: int, retry_after: int = 1) -> None:
        """``waiting`` requests are queued already; ``retry_after`` is in seconds."""
        super().__init__(f"the queue is full, with {waiting} requests waiting; try again in {retry_after} s")
        self.waiting = waiting
        self.retry_after = retry_after


class QueueTooSlow(QueueFull):
    """The expected wait of the request exceeds its timeout, so it is rejected at once."""

    def __init__(self, wait: float, timeout_s: float, retry_after: int) -> None:
        """All are in seconds."""
        RequestRejected.__init__(
            self,
            f"the expected wait of {wait:.0f} s exceeds this request's timeout of {timeout_s:.0f} s; "
            f"try again in {retry_after} s",
        )
        self.retry_after = retry_after


class PromptTooLong(RequestRejected):
    """Prompt and answer do not fit into the context, under any load."""

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        """Both figures are in tokens."""
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context {context_length}, "
            "at least one of them for the answer; shorten the prompt"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class UnknownToken(RequestRejected):
    """A logit bias names a token that is not in the vocabulary."""

    def __init__(self, token_id: int, vocab_size: int) -> None:
        super().__init__(f"{token_id} is not a token id of this model; its ids are 0 to {vocab_size - 1}")


class GrammarRejected(RequestRejected):
    """The grammar of the answer is invalid, not supported, or too costly."""

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
    """The grammar of this request exceeded its time limit during generation, or allowed no next token."""


class SlowConsumer(EngineError):
    """The client did not read the outputs of the request, so it was ended."""

    def __init__(self, unread: int) -> None:
        """``unread`` is the number of waiting outputs."""
        super().__init__(f"the client read too slowly: {unread} tokens were waiting, so the request was ended")
        self.unread = unread


SEE_LOG = "; its messages in the log say why"
"""Ends a message about a file that llama.cpp does not load."""


class ModelLoadError(EngineError):
    """The model file could not be loaded; the message has the reason and the remedy."""


class SelfTestFailed(ModelLoadError):
    """The model was loaded, but llama.cpp computes wrong results with it on this machine."""
