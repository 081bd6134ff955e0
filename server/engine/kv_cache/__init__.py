"""The KV cache: prefix cache, offload, saved states."""
