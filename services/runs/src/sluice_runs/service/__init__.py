"""What the run service does."""
