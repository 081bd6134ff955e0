"""The tokens of each step: waiting queue, batch, budget, chunked prefill. Pure."""
