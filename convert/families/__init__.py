"""The model families: their tensors and metadata."""
