"""Model hubs: the checkpoints on Hugging Face and ModelScope, and their download."""
