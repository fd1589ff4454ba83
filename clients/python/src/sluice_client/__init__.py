"""What programs need to speak to Sluice."""

from sluice_client.handler import LogHandler

__all__ = ["LogHandler"]
