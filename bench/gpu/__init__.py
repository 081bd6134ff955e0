"""All that needs a GPU, in one run: ``python -m bench.gpu``."""
