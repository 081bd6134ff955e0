"""Middleware and helpers around every route, independent of the dialect."""
