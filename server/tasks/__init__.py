"""Stored prompts: what a model can be asked for by name, each in a file of its own."""
