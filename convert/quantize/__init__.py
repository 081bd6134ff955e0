"""Quantisation: types, recipes, importance matrix, ggml's kernels."""
