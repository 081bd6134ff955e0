"""Tool calls: the prompt text, the grammar and the parser of each model family. Pure."""
