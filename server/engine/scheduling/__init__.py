"""What a step computes, for whom, and from which cells. Pure: no llama_cpp, no clock, no I/O."""
