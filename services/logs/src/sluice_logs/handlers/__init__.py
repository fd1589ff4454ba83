"""Doors of the log service: HTTP."""
