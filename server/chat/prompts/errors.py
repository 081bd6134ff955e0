"""Errors of a conversation that a prompt format cannot express."""


class PromptError(ValueError):
    """The messages cannot be made into a prompt; the text says which and why."""
