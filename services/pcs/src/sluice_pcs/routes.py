"""Paths that this service answers."""

ROUTES = ("/pcs", "/api/panda-queues", "/api/rucio-endpoints")
