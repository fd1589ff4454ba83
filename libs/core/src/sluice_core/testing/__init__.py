"""What tests of all packages share; the fixtures are in `sluice_core.testing.plugin`, which pytest finds by itself."""

from sluice_core.testing.databases import Databases
from sluice_core.testing.servers import NatsServer, PostgresServer, StartNats
from sluice_core.testing.waiting import eventually, eventually_async

__all__ = ["Databases", "NatsServer", "PostgresServer", "StartNats", "eventually", "eventually_async"]
