"""Endpoints for operators: ``GET /health`` and ``GET /metrics``."""
