"""Models that other servers run: the connection to such a server, and the translation to and from its chat API."""
