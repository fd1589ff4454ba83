"""The HTTP doors that are no resource."""
