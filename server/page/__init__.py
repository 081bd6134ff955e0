"""The chat page: files that a browser gets at ``/``. It talks to the server through the public API alone."""
