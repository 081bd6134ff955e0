"""Speculative decoding with n-gram drafts. Pure."""
