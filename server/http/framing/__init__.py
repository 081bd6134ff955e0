"""Where one HTTP/1.1 message ends and the next begins."""
