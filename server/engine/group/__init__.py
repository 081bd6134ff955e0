"""Several engine processes of one model, each with its own KV cache."""
