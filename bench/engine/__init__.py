"""Measurements of the engine alone, in one process."""
