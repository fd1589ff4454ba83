"""Agents, heartbeats, namespaces, counters, workers and tokens."""
