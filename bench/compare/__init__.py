"""This server beside others on the same files, machine and requests; run as ``python -m bench.compare``."""
