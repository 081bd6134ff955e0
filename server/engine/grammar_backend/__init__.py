"""Grammars on a vocabulary: the mask of the tokens that may come next."""
