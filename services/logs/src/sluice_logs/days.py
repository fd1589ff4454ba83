"""Partitions of the log table: one a day, made ahead, dropped when they are old."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from sluice_core.database import Database, DatabaseAway
from sluice_logs.store import Partitions

__all__ = ["AHEAD", "Days", "utc_now"]

log = structlog.get_logger(__name__)

# Days made ahead: a week in which making them may fail, or the clocks of two machines differ.
AHEAD = 7
EVERY = timedelta(minutes=10)
# Far longer than the stream waits for an answer before it delivers a message again.
INPUTS_FOR = timedelta(days=1)


def utc_now() -> datetime:
    """Return the time; its day is the day of arrival of what comes now."""
    return datetime.now(UTC)


class Days:
    """Which days the log table has room for; all methods but `tidy_regularly` block.

    Parameters
    ----------
    database
        Where the table is.
    retention
        Age at which records are dropped, a whole day at a time; zero keeps them for ever.
    most_bytes
        Size of the table beyond which its oldest days are dropped, but for today; zero is no limit.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        database: Database,
        retention: timedelta,
        *,
        most_bytes: int = 0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._retention = retention
        self._most_bytes = most_bytes
        self._now = now

    def make(self, days: Iterable[date]) -> None:
        """Make the partitions of these days that are not there.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        wanted = sorted(set(days))
        self._database.transact(lambda connection: Partitions(connection).make(wanted))

    def make_ahead(self) -> None:
        """Make the partitions of these days; the writer makes a day by itself where this was not possible.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        today = self._now().date()
        # Yesterday too: what arrived before midnight may be written after it.
        self.make(today + timedelta(days=number) for number in range(-1, AHEAD + 1))

    def tidy(self) -> None:
        """Make the days ahead, drop those that are too old, and forget what the stream will not send again.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        self.make_ahead()
        if self._retention:
            self._drop((self._now() - self._retention).date(), "old")
        if self._most_bytes:
            self._drop(self._database.read(self._first_that_fits), "too large")
        self._database.transact(lambda connection: Partitions(connection).forget_inputs(INPUTS_FOR))

    def _drop(self, before: date, why: str) -> None:
        for dropped in self._database.transact(lambda connection: Partitions(connection).drop(before)):
            log.info("records of a day dropped", day=dropped.isoformat(), why=why)

    def _first_that_fits(self, connection: Connection) -> date:
        """Return the oldest day that may stay: with it and all later ones the table is as large as it may be."""
        fits, size = self._now().date(), 0
        for day, more in reversed(Partitions(connection).sizes()):
            size += more
            if size > self._most_bytes:
                break
            fits = min(fits, day)
        return fits

    async def tidy_regularly(self) -> None:
        """Do it from time to time, for ever; a long-lived task."""
        while True:
            try:
                await self._database.run(self.tidy)
            except (DatabaseAway, OperationalError) as exc:
                # Away, or somebody holds a lock on the table for long: there is a week to try again.
                log.warning("days are not made or dropped now", reason=str(exc))
            await asyncio.sleep(EVERY.total_seconds())
