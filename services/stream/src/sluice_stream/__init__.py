"""Messages from the broker to everybody."""
