"""What can be wrong with a conversation."""


class PromptError(ValueError):
    """The messages cannot be made into a prompt; the text says which and why."""
