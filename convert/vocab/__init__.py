"""Tokenizers and chat templates as GGUF metadata."""
