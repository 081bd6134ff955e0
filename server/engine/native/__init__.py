"""What llama.cpp does and is given: weights, cells, samplers, threads."""
