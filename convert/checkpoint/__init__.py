"""Reads a checkpoint folder: configuration, safetensors, torch files. All of them are untrusted input."""
