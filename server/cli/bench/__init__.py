"""``glmserve bench``: throughput and latency of a running server."""
