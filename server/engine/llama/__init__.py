"""llama.cpp: model runner, sampler, placement, threads, adapters."""
