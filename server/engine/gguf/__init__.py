"""What a model file says of itself, read with suspicion before llama.cpp reads it."""
