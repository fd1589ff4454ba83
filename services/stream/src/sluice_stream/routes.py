"""Paths that this service answers."""

ROUTES = ("/api/messages", "/api/subscribers", "/api/workflow-messages", "/api/dlq", "/api/stomp")
