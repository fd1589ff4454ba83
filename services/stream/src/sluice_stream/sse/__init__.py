"""Messages as server-sent events: ``/api/messages/stream/`` (contract 6)."""
