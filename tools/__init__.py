"""Scripts behind ``./task``: no part of the platform."""
