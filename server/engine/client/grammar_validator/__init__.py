"""Validation of grammars in a separate process, before an engine compiles them."""
