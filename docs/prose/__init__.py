"""The prose linter and its rules."""
