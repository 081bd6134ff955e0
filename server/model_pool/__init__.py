"""The served models: their engines and tokenizers, loaded on demand and unloaded when idle."""
