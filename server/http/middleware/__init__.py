"""ASGI middleware around every route, the same for all dialects."""
