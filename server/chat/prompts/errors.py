"""Errors of a conversation that a prompt format cannot express."""


class PromptError(ValueError):
    """The messages cannot be encoded as a prompt; the message has the reason."""
