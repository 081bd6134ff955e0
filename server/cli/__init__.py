"""The ``glmserve`` command. Each subcommand has a module; only the module that is called is imported."""
