"""The header of a model file, read with suspicion before llama.cpp reads it."""
