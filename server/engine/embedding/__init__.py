"""The engine core and the model runner of embedding models."""
