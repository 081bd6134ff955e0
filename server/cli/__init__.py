"""The ``glmserve`` command. Each subcommand has a module or a folder; only the one that is called is imported."""
