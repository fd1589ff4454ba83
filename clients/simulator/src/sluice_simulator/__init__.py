"""A complete run, played by agents of their own over STOMP and HTTP (swf-clients.md 8.1)."""
