"""Paths that this service answers."""

ROUTES = ("/api/logs",)
