"""Tokens in, tokens out: continuous batching on llama.cpp, in a process of its own."""
