"""Numbers that are never given twice (contract 4.2)."""

from dataclasses import dataclass

from sluice_core.database import Database
from sluice_registry.store.counters import CounterStore

__all__ = ["AGENT_ID", "RUN_NUMBER", "WORKFLOW_EXECUTION_ID", "Counter", "Counters"]


@dataclass(frozen=True)
class Counter:
    """A counter: the name it is kept under, and its first number on a fresh database."""

    name: str
    first: int


RUN_NUMBER = Counter("run-number", 100010)
AGENT_ID = Counter("agent-id", 1)
WORKFLOW_EXECUTION_ID = Counter("workflow-execution-id", 1)


class Counters:
    """Hands out numbers, each in a transaction of its own, so they rise by one and stay used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, counter: Counter) -> int:
        """Return the next number; blocks.

        Raises
        ------
        sluice_core.database.DatabaseAway
            PostgreSQL cannot be reached; a number may have been used up.
        """
        return self._database.transact(lambda connection: CounterStore(connection).take(counter.name, counter.first))
