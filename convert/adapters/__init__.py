"""LoRA adapters and P-Tuning prefixes to GGUF."""
