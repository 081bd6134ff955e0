"""The HTTP APIs, a folder for each dialect: a body in, a request for ``glmserve.generation`` out, and its reply."""
