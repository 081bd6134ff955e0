"""Reads a checkpoint folder: configuration, safetensors, torch files. Trusts none of them."""
