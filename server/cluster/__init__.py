"""Engines on the machines of a Ray cluster, and the application in front of them, deployed by Ray Serve."""
