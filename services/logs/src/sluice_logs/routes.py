"""Paths that this service answers."""

ROUTES = ("/api/logs", "/v1/logs")
