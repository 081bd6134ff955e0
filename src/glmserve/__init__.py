"""HTTP in, HTTP out: the server, its settings and its commands."""
