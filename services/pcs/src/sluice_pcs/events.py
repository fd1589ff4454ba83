"""What the service says about configurations, through the outbox."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection

from sluice_core import outbox, subjects
from sluice_core.bus.streams import PCS_KINDS
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
    to_broker
        Send what is asked of JEDI to the queue of the broker too.
    """

    def __init__(self, wake: Callable[[], None], *, to_broker: bool = False) -> None:
        self._wake = wake
        self._to_broker = to_broker

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
        # The stream takes no other, and an event of another one would wait in the outbox for ever.
        assert kind in PCS_KINDS, kind
        subject = subjects.pcs(kind, verb)
        outbox.add(
            connection, tables.outbox, subject=subject, event_type=f"{kind}.{verb}", data=data, key=f"{kind} {key}"
        )
        after_commit(connection, self._wake)

    def ask(self, connection: Connection, verb: str, message: Mapping[str, Any], **more: Any) -> None:
        """Ask whoever has the credentials of a production to do something for a task (contract 10.7).

        Parameters
        ----------
        verb
            Such as ``submission-wanted``.
        message
            What the operations agent reads; ``task_name`` says for which task.
        more
            What the event has beyond it.
        """
        task = str(message["task_name"])
        self.say(connection, "task", verb, task, {**message, **more})
        if self._to_broker:
            outbox.add_event(
                connection,
                tables.outbox,
                event_id=uuid4(),
                subject=subjects.outbound(subjects.OPERATIONS),
                schema="prodops;v=1",
                body=msgspec.json.encode(message),
                key=f"operations {task}",
            )

    def following(self, kind: str, key: str) -> Callable[[Connection, Change], None]:
        """Return the hook of a resource whose rows are called by the field ``key``."""
        return partial(self._follow, kind, key)

    def _follow(self, kind: str, key: str, connection: Connection, change: Change) -> None:
        row = change.after or change.before
        assert row is not None
        self.say(connection, kind, change.kind, str(row[key]), row)
