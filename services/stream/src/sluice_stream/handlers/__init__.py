"""Doors for HTTP."""
