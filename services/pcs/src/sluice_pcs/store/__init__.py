"""What the service keeps; the only place with SQL."""
