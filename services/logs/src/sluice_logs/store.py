"""The ``log_record`` table, beyond what the list and single records need."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import psycopg2.extensions
from sqlalchemy import Connection, Row, bindparam, column, delete, func, select, table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from sluice_logs.tables import SEVERE, log_ids, log_input, log_record

__all__ = ["LogStore", "Partitions", "RecordStore"]

_c = log_record.c
INSTANCE = (_c.app_name, _c.instance_name)

COUNTS = select(*INSTANCE, _c.levelname, func.count()).group_by(*INSTANCE, _c.levelname)
COUNTS = COUNTS.order_by(*INSTANCE, _c.levelname)

_place = func.row_number().over(partition_by=INSTANCE, order_by=(_c.timestamp.desc(), _c.id.desc())).label("place")
_ranked = select(log_record, _place).where(SEVERE).subquery()
_r = _ranked.c
SEVERE_NEWEST = (
    select(_r.app_name, _r.instance_name, _r.timestamp, _r.levelname, _r.message, _r.module, _r.funcname, _r.lineno)
    .where(_r.place <= bindparam("most"))
    .order_by(_r.app_name, _r.instance_name, _r.place)
)

RESERVE = select(log_ids.next_value())
NAMES = ", ".join(each.name for each in log_record.columns)
COPY = f"COPY {{}} ({NAMES}) FROM STDIN"
INCOMING = "CREATE TEMPORARY TABLE log_incoming (LIKE log_record) ON COMMIT DROP"
_incoming = table("log_incoming", *(column(each.name) for each in log_record.columns))
TAKE_MISSING = insert(log_record).from_select(list(log_record.columns), select(_incoming).order_by(_incoming.c.id))
TAKE_MISSING = TAKE_MISSING.on_conflict_do_nothing()

PARTITION = "log_record_%Y%m%d"
PARTITIONS = text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'log_record'::regclass"
)
# Any number that nothing else in this database locks.
PARTITIONS_LOCK = 7_106_532


class LogStore:
    """Questions about all log records. Never commits.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def counts(self) -> Sequence[Row[str, str, str, int]]:
        """Count records by ``app_name``, ``instance_name`` and ``levelname``; the number comes last."""
        return self._connection.execute(COUNTS).all()

    def severe(self, most: int) -> Sequence[Row[str, str, datetime, str, str, str, str, int]]:
        """Return the newest errors of each instance, newest first, ``most`` of each.

        Each row is ``app_name`` and ``instance_name``, then what the summary shows of the record.
        """
        return self._connection.execute(SEVERE_NEWEST, {"most": most}).all()


class Partitions:
    """The days that the log table has room for. Never commits.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def days(self) -> list[date]:
        """Return the days that are there, oldest first."""
        names = self._connection.execute(PARTITIONS).scalars()
        return sorted(datetime.strptime(name, PARTITION).replace(tzinfo=UTC).date() for name in names)

    def make(self, days: Sequence[date]) -> None:
        """Make room for each of these days."""
        self._patiently()
        there = set(self.days())
        for day in days:
            if day not in there:
                self._connection.exec_driver_sql(
                    f"CREATE TABLE {day.strftime(PARTITION)} PARTITION OF log_record "
                    f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
                )

    def drop(self, before: date) -> list[date]:
        """Drop the days before this one, with all that arrived in them; return which."""
        self._patiently()
        old = [day for day in self.days() if day < before]
        for day in old:
            self._connection.exec_driver_sql(f"DROP TABLE {day.strftime(PARTITION)}")
        return old

    def forget_inputs(self, age: timedelta) -> None:
        """Forget messages of the stream that were taken longer ago."""
        self._connection.execute(delete(log_input).where(log_input.c.at < func.now() - age))

    def _patiently(self) -> None:
        """Wait for other replicas that do the same, but let nobody wait long for the lock of the whole table."""
        self._connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        self._connection.execute(select(func.pg_advisory_xact_lock(PARTITIONS_LOCK)))


class RecordStore:
    """Writes of log records in lines as `sluice_logs.records` makes them. Never commits.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reserve(self) -> int:
        """Return the first of `sluice_logs.tables.BLOCK` ids that nobody else will ever get."""
        return self._connection.execute(RESERVE).scalar_one()

    def copy(self, lines: Sequence[bytes]) -> None:
        """Store new records.

        Parameters
        ----------
        lines
            One a record, in COPY's text form and the order of the table's columns.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As PostgreSQL refuses them; with code 22, 23 or 54 for what is in a record.
        """
        self._copy(COPY.format("log_record"), lines)

    def copy_missing(self, lines: Sequence[bytes]) -> None:
        """Store records of which some may be there already, by their id and day of arrival; as `copy`."""
        self._connection.exec_driver_sql(INCOMING)
        self._copy(COPY.format("log_incoming"), lines)
        self._connection.execute(TAKE_MISSING)

    def new_inputs(self, messages: Sequence[str]) -> set[str]:
        """Note messages of the stream as taken; return those that were not, each of which is the caller's now."""
        new = insert(log_input).from_select(["message"], select(func.unnest(list(messages)))).on_conflict_do_nothing()
        return set(self._connection.execute(new.returning(log_input.c.message)).scalars())

    def _copy(self, statement: str, lines: Sequence[bytes]) -> None:
        connection = self._connection
        if not connection.in_transaction():
            # The driver's own cursor tells SQLAlchemy nothing, which would then commit nothing.
            connection.begin()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg2.extensions.connection)
        try:
            with driver.cursor() as cursor:
                cursor.copy_expert(statement, BytesIO(b"".join(lines)))
        except psycopg2.Error as exc:
            gone = bool(driver.closed)
            if gone:
                connection.invalidate(exc)
                # The others in the pool are as old as this one.
                connection.engine.dispose(close=False)
            raise DBAPIError.instance(
                statement, None, exc, psycopg2.Error, connection_invalidated=gone, dialect=connection.dialect
            ) from exc
