"""The commands of ``glmserve``, a module each; ``server.cli`` imports only the one that is called."""
