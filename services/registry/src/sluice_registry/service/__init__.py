"""What the registry does."""
