"""Messages to token ids, by the prompt format of the model family."""
