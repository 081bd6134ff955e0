"""Messages to token ids, a module for each model family."""
