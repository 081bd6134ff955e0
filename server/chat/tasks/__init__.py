"""Tasks: stored prompts that a request calls by name, one file each."""
