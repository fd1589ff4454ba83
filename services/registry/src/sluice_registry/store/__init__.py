"""What the registry keeps; the only place with SQL."""
