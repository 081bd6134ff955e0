"""The API side of an engine: admission, the process, its requests and their output streams."""
