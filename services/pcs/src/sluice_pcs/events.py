"""What the service says about configurations, through the outbox."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sluice_core import outbox, subjects
from sluice_core.database import after_commit
from sluice_core.rest import Change
from sluice_pcs import tables

__all__ = ["Events"]


class Events:
    """Events ``pcs.<kind>.<verb>``, each in the transaction of what it tells.

    Parameters
    ----------
    wake
        Called after the commit of a transaction with events, from any thread; starts the relay.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def say(self, connection: Connection, kind: str, verb: str, key: str, data: Any) -> None:
        """Add an event.

        Parameters
        ----------
        kind
            Such as ``tag``.
        verb
            Such as ``locked``.
        key
            What it happened to; events of one key are published in their order.
        data
            What it is now, or was before it went.
        """
        subject = subjects.pcs(kind, verb)
        outbox.add(
            connection, tables.outbox, subject=subject, event_type=f"{kind}.{verb}", data=data, key=f"{kind} {key}"
        )
        after_commit(connection, self._wake)

    def following(self, kind: str, key: str) -> Callable[[Connection, Change], None]:
        """Return the hook of a resource whose rows are called by the field ``key``."""
        return partial(self._follow, kind, key)

    def _follow(self, kind: str, key: str, connection: Connection, change: Change) -> None:
        row = change.after or change.before
        assert row is not None
        self.say(connection, kind, change.kind, str(row[key]), row)
