"""Compute modes: safer ways to start an engine where a build is wrong for the CPU."""
