"""Counters of a run, moved without a race (contract 3.14)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.errors import Invalid
from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_runs.errors import RunStateUnknown
from sluice_runs.service.events import Events
from sluice_runs.store import repeats

__all__ = ["Counters"]

MOST = 2**31 - 1


class Counters:
    """Moves counters; its methods block."""

    def __init__(self, resource: Resource, database: Database, events: Events) -> None:
        self._resource = resource
        self._store = ResourceStore(resource)
        self._database = database
        self._events = events

    def increment(self, number: int, by: Mapping[str, int], caller: Identity, key: str = "") -> dict[str, Any]:
        """Add to counters of a run.

        Parameters
        ----------
        by
            Counter -> what is added; may be negative.
        key
            The header ``Idempotency-Key``: a request that was carried out is not carried out again.

        Returns
        -------
        dict
            The run state.

        Raises
        ------
        RunStateUnknown
            There is none.
        sluice_core.errors.Invalid
            A counter would leave its 32 bits.
        """
        work = partial(self._work, number, by, caller.subject, key)
        try:
            return self._database.transact(work)
        except IntegrityError:
            # The same request was carried out at the same time, and is known by now.
            return self._database.transact(work)

    def _work(
        self, number: int, by: Mapping[str, int], caller: str, key: str, connection: Connection
    ) -> dict[str, Any]:
        path = f"{self._resource.path}{number}/increment/"
        before = self._store.get(connection, number, lock=True)
        if before is None:
            raise RunStateUnknown(f"There is no state of run {number}.")
        if key:
            if repeats.find(connection, caller, path, key) is not None:
                return before
            repeats.remember(connection, caller, path, key, str(number))
        values = {name: before[name] + step for name, step in by.items()}
        beyond = [name for name, value in values.items() if not -MOST - 1 <= value <= MOST]
        if beyond:
            raise Invalid([{"field": name, "message": "The counter would leave its 32 bits."} for name in beyond])
        row = self._store.update(connection, number, values)
        assert row is not None
        self._events.tell(connection, "state", "updated", row, key=str(number))
        return row
