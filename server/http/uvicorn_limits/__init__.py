"""Bounds that uvicorn lacks: connections, request heads, pipelining, slow consumers."""
