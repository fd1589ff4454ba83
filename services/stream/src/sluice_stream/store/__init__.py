"""What the stream service keeps; the only place with SQL."""
