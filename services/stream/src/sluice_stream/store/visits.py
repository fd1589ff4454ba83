"""The rows of connections: in ``subscriber`` for everybody, in ``sse_connection`` for us."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Interval, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sluice_stream.tables import sse_connection, sse_instance, subscriber

__all__ = ["Counts", "VisitStore"]

# Rows of one statement.
CHUNK = 500
# The columns are of 32 bits (contract 3.8).
MOST = 2**31 - 1


_GIVEN = """
unnest(CAST(:ids AS integer[]), CAST(:sent AS integer[]), CAST(:dropped AS integer[]),
       CAST(:active AS timestamptz[]), CAST(:ended AS timestamptz[]))
AS given (id, sent, dropped, active_at, ended_at)
"""
_COUNT = text(f"""
UPDATE subscriber
SET messages_sent = given.sent, messages_dropped = given.dropped,
    last_activity = coalesce(given.active_at, last_activity),
    is_active = given.ended_at IS NULL, disconnected_at = given.ended_at, updated_at = now()
FROM {_GIVEN} WHERE subscriber_id = given.id
""")  # noqa: S608 - of constants
_LEFT = text(f"""
UPDATE sse_connection SET ended_at = given.ended_at
FROM {_GIVEN} WHERE subscriber_id = given.id AND given.ended_at IS NOT NULL
""")  # noqa: S608 - of constants


class Counts(NamedTuple):
    """What one connection got so far.

    Attributes
    ----------
    sent, dropped
        Totals, so that writing them twice does no harm.
    active_at
        When it got something; None: nothing since the last time.
    ended_at
        When it was left.
    """

    subscriber_id: int
    sent: int
    dropped: int
    active_at: datetime | None
    ended_at: datetime | None


class VisitStore:
    """Statements of one process; each method runs in a transaction of the caller's.

    Parameters
    ----------
    instance
        Names this process.
    lease
        After so long without a word, a process counts as dead.
    """

    def __init__(self, instance: UUID, lease: timedelta) -> None:
        self.instance = instance
        self._alive = sse_instance.c.seen_at > func.now() - bindparam(None, lease, Interval)

    def enter(self, rows: Sequence[Mapping[str, Any]], connection: Connection) -> dict[UUID, int]:
        """Make the rows of new connections; return their subscribers' ids. Those that are there already stay.

        Parameters
        ----------
        rows
            With client_id, instance, ip, location, filters and connected_at.
        """
        table = sse_connection.c
        wanted = [row["client_id"] for row in rows]
        query = select(table.client_id, table.subscriber_id).where(table.client_id.in_(wanted))
        found = {row.client_id: row.subscriber_id for row in connection.execute(query)}
        # A name of eight characters can be taken; the whole id cannot.
        for length in (8, 36):
            left = [row for row in rows if row["client_id"] not in found]
            for chunk in _chunks(left):
                found |= self._enter(connection, chunk, length)
        return found

    def _enter(self, connection: Connection, rows: Sequence[Mapping[str, Any]], length: int) -> dict[UUID, int]:
        by_name = {f"sse_{str(row['client_id'])[:length]}": row for row in rows}
        made = (
            upsert(subscriber)
            .values([_subscriber(name, row) for name, row in by_name.items()])
            .on_conflict_do_nothing(index_elements=["subscriber_name"])
            .returning(subscriber.c.subscriber_name, subscriber.c.subscriber_id)
        )
        ids = {by_name[name]["client_id"]: subscriber_id for name, subscriber_id in connection.execute(made)}
        here = [row for row in by_name.values() if row["client_id"] in ids]
        if here:
            own = ("client_id", "instance", "filters", "connected_at")
            connection.execute(
                insert(sse_connection),
                [{"subscriber_id": ids[row["client_id"]], **{name: row[name] for name in own}} for row in here],
            )
        return ids

    def count(self, counts: Sequence[Counts], connection: Connection) -> None:
        """Write counters, and who is gone."""
        # In one order everywhere, so that two replicas do not wait for each other.
        for chunk in _chunks(sorted(counts, key=lambda one: one.subscriber_id)):
            ids, sent, dropped, active, ended = (list(each) for each in zip(*chunk, strict=True))
            given = {"ids": ids, "active": active, "ended": ended}
            given |= {"sent": [min(each, MOST) for each in sent], "dropped": [min(each, MOST) for each in dropped]}
            connection.execute(_COUNT, given)
            connection.execute(_LEFT, given)

    def beat(self, here: Sequence[int], connection: Connection) -> None:
        """Say that this process lives, and end what processes have left that do not.

        Parameters
        ----------
        here
            Subscribers that are connected to this process. They come back if somebody took it for dead.
        """
        said = upsert(sse_instance).values(instance=self.instance)
        known = connection.execute(
            said.on_conflict_do_update(index_elements=["instance"], set_={"seen_at": func.now()}).returning(
                text("xmax <> 0")
            )
        ).scalar_one()
        if not known and here:
            connection.execute(
                update(sse_connection).where(sse_connection.c.subscriber_id.in_(here)).values(ended_at=None)
            )
            connection.execute(
                update(subscriber)
                .where(subscriber.c.subscriber_id.in_(here))
                .values(is_active=True, disconnected_at=None)
            )
        connection.execute(delete(sse_instance).where(~self._alive))
        living = select(sse_instance.c.instance)
        self._end(connection, sse_connection.c.instance.not_in(living))

    def vanish(self, connection: Connection) -> None:
        """Say that this process is gone."""
        self._end(connection, sse_connection.c.instance == self.instance)
        connection.execute(delete(sse_instance).where(sse_instance.c.instance == self.instance))

    def connected(self, connection: Connection) -> list[tuple[UUID, dict[str, list[str]]]]:
        """Return the client ids and filters of those who are connected to a process that lives."""
        table = sse_connection.c
        query = (
            select(table.client_id, table.filters)
            .join(sse_instance, sse_instance.c.instance == table.instance)
            .where(table.ended_at.is_(None), self._alive)
            .order_by(table.subscriber_id)
        )
        return [(client_id, filters) for client_id, filters in connection.execute(query)]

    def forget(self, retention: timedelta, connection: Connection) -> None:
        """Delete the rows of connections that ended so long ago."""
        old = sse_connection.c.ended_at < func.now() - bindparam(None, retention, Interval)
        gone = delete(sse_connection).where(old).returning(sse_connection.c.subscriber_id)
        ids = [subscriber_id for (subscriber_id,) in connection.execute(gone)]
        for chunk in _chunks(ids):
            connection.execute(delete(subscriber).where(subscriber.c.subscriber_id.in_(chunk)))

    def _end(self, connection: Connection, which: Any) -> None:
        ended = (
            update(sse_connection)
            .where(sse_connection.c.ended_at.is_(None), which)
            .values(ended_at=func.now())
            .returning(sse_connection.c.subscriber_id)
        )
        ids = [subscriber_id for (subscriber_id,) in connection.execute(ended)]
        for chunk in _chunks(ids):
            connection.execute(
                update(subscriber)
                .where(subscriber.c.subscriber_id.in_(chunk))
                .values(is_active=False, disconnected_at=func.now(), updated_at=func.now())
            )


def _subscriber(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row that everybody sees (contract 6.2)."""
    return {
        "subscriber_name": name,
        "description": f"SSE client from {row['ip'] or 'unknown'}",
        "is_active": True,
        "delivery_type": "sse",
        "client_ip": row["ip"],
        "client_location": row["location"],
        "connected_at": row["connected_at"],
        "last_activity": row["connected_at"],
        "message_filters": row["filters"],
        "messages_received": 0,
        "messages_sent": 0,
        "messages_dropped": 0,
    }


def _chunks(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK))
