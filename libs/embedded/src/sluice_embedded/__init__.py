"""A real PostgreSQL and a real nats-server as child processes."""

from sluice_embedded.errors import DataInUse, PortBusy, ServerError, StartFailed, WrongVersion
from sluice_embedded.nats import Nats
from sluice_embedded.postgres import Postgres

__all__ = ["DataInUse", "Nats", "PortBusy", "Postgres", "ServerError", "StartFailed", "WrongVersion"]
