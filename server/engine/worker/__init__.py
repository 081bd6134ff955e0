"""The engine process: one step after another, and the state kept across restarts."""
