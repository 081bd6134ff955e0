"""The engine process: one step after another, and what it keeps from one start to the next."""
