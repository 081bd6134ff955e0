"""Batches: files of requests that are answered while nothing else is to be computed, and kept on disk."""
