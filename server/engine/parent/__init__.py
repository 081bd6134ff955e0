"""The API side of an engine: who is let in, the process that computes, and what comes back from it."""
