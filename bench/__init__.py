"""Measurements: run from the root of the project, as ``python -m bench.overload`` or ``bench.engine.scale``."""
