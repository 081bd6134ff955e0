"""The chat template of a model file as a prompt format: rendered in a sandbox, with its special tokens told apart."""
