"""The header of a model file, parsed as untrusted input before llama.cpp reads it."""
