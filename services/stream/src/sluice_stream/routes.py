"""Paths that this service answers; all but the subscribers come with the message pipeline."""

ROUTES = ("/api/messages", "/api/subscribers", "/api/workflow-messages", "/api/dlq")
