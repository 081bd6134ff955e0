"""HTTP/1.1 framing: where a message ends and the next one begins."""
