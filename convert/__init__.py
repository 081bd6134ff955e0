"""Checkpoint in, GGUF out: reads a Hugging Face folder and writes one quantised file for llama.cpp."""
