"""What the run service says about its rows: durable, by the outbox, on ``runs.*``, ``files.*`` and ``workflows.*``."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from sluice_core import outbox
from sluice_core.database import after_commit
from sluice_core.rest import Change
from sluice_runs import tables
from sluice_runs.store.origins import Origin, origin

__all__ = ["SUBJECTS", "Events"]

SUBJECTS: Mapping[str, str] = {
    "run": "runs.run",
    "state": "runs.state",
    "event": "runs.event",
    "stale": "runs.stale",
    "stf": "files.stf",
    "tf": "files.tf",
    "slice": "files.slice",
    "dispatch": "files.dispatch",
    "workflow": "workflows.workflow",
    "stage": "workflows.stage",
    "definition": "workflows.definition",
    "execution": "workflows.execution",
}
"""Where the events of each kind of row go."""

# A message of NATS has a megabyte; a row with more than this is told without what may be long.
MOST = 256 * 1024
SHORT = 1000


class Events:
    """Events about rows.

    Parameters
    ----------
    wake
        Called after the commit of a transaction with events, from any thread; starts the relay.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def hook(self, kind: str, key: str) -> Callable[[Connection, Change], None]:
        """Return what follows a resource's own writes: its ``on_change``.

        Parameters
        ----------
        kind
            Of its rows, one of `SUBJECTS`.
        key
            Name of the field that tells its rows apart.
        """

        def on_change(connection: Connection, change: Change) -> None:
            if change.before != change.after:
                row = change.after or change.before
                assert row is not None
                self.tell(connection, kind, change.kind, row, key=str(row[key]))

        return on_change

    def tell(self, connection: Connection, kind: str, what: str, row: Mapping[str, Any], *, key: str) -> None:
        """Add an event about a row to the transaction.

        Parameters
        ----------
        what
            ``created``, ``updated`` or ``deleted``.
        row
            As on the wire.
        key
            Of the row; events about it stay in their order.
        """
        self.say(connection, kind, what, origin(connection, kind, row), {"row": _short(row)}, key=key)

    def say(
        self, connection: Connection, kind: str, what: str, where: Origin, content: Mapping[str, Any], *, key: str
    ) -> None:
        """Add an event to the transaction.

        Parameters
        ----------
        what
            Last word of its type, after ``kind``.
        where
            What it is about.
        content
            What it says beside that.
        """
        outbox.add(
            connection,
            tables.outbox,
            subject=SUBJECTS[kind],
            event_type=f"{kind}.{what}",
            data={**where._asdict(), **content},
            key=f"{kind} {key}",
        )
        after_commit(connection, self._wake)


def _short(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(msgspec.json.encode(row)) <= MOST:
        return row
    return {name: value for name, value in row.items() if len(msgspec.json.encode(value)) <= SHORT}
