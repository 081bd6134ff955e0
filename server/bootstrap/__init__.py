"""Builds a server from its configuration: model files, engines, the application, the listening socket."""
