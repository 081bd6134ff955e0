"""Compiles grammars in a process of its own before an engine does, in turn of callers."""
