"""The served models: which answers what, when it is loaded, and what fits into the memory."""
