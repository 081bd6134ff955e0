"""Long tests: minutes to hours each. `make soak` runs them, `make test` does not."""
