"""Central logging."""
