"""The embedded tiny model: a ChatGLM2 checkpoint small enough to live in the repository."""
