"""Conversion of a Hugging Face checkpoint folder to one quantised GGUF file for llama.cpp."""
