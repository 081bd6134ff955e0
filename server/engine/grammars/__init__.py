"""Grammars on a vocabulary: which tokens may come next."""
