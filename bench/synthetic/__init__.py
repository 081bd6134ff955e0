"""Models and checkpoints of real size without real weights, for the benchmarks."""
