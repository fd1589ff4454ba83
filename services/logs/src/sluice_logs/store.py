"""The ``log_record`` table, beyond what the list and single records need."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from sluice_core.database.copying import copy, unescaped
from sluice_logs.tables import log_count, log_ids, log_input, log_record

__all__ = ["LogStore", "Partitions", "RecordStore"]

_c = log_record.c
_n = log_count.c
_heard = (
    select(_n.app_name, _n.instance_name)
    .where(_n.records > 0)
    .group_by(_n.app_name, _n.instance_name)
    .order_by(func.max(_n.received_on).desc(), _n.app_name, _n.instance_name)
    .limit(bindparam("most"))
    .cte("heard")
)
_level = (_n.app_name, _n.instance_name, _n.levelname)
COUNTS = (
    select(*_level, func.sum(_n.records))
    .join(_heard, (_n.app_name == _heard.c.app_name) & (_n.instance_name == _heard.c.instance_name))
    .where(_n.records > 0)
    .group_by(*_level)
    .order_by(*_level)
)
APPS = (
    select(_n.app_name, func.count(_n.instance_name.distinct()), func.sum(_n.records), func.max(_n.received_on))
    .where(_n.records > 0)
    .group_by(_n.app_name)
    .order_by(_n.app_name)
    .limit(bindparam("most"))
)
INSTANCES = (
    select(_n.app_name, _n.instance_name, func.sum(_n.records), func.max(_n.received_on))
    .where(_n.records > 0)
    .group_by(_n.app_name, _n.instance_name)
    .order_by(_n.app_name, _n.instance_name)
    .limit(bindparam("most"))
)
# An instance at a time, each by the index of its errors, however many more of them there are.
SEVERE_NEWEST = text("""
    SELECT instance.app_name, instance.instance_name, timestamp, levelname, message, module, funcname, lineno
    FROM unnest(CAST(:apps AS text[]), CAST(:instances AS text[])) AS instance (app_name, instance_name)
    CROSS JOIN LATERAL (
        SELECT id, timestamp, levelname, left(message, :characters) AS message, module, funcname, lineno
        FROM log_record AS record
        WHERE record.app_name = instance.app_name AND record.instance_name = instance.instance_name
            AND levelname IN ('ERROR', 'CRITICAL')
        ORDER BY timestamp DESC, id DESC
        LIMIT :most
    ) AS newest
    ORDER BY instance.app_name, instance.instance_name, timestamp DESC, id DESC
""")

# As `sluice_logs.tables.words` has it, of texts that are in no table.
FOUND = text("""
    SELECT to_tsvector('simple', left(message, 20000)) @@ websearch_to_tsquery('simple', :clause)
    FROM unnest(CAST(:messages AS text[])) WITH ORDINALITY AS given (message, place) ORDER BY place
""")

RESERVE = select(log_ids.next_value())
NAMES = ", ".join(each.name for each in log_record.columns)
COPY = f"COPY {{}} ({NAMES}) FROM STDIN"
INCOMING = "CREATE TEMPORARY TABLE log_incoming (LIKE log_record) ON COMMIT DROP"
# The rows of a count are locked in one order, whoever counts.
COUNT = """
    INSERT INTO log_count AS known (app_name, instance_name, levelname, received_on, records)
    {} ON CONFLICT (app_name, instance_name, levelname, received_on)
    DO UPDATE SET records = known.records + excluded.records
"""
COUNT_THESE = COUNT.format("SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::date[], %s::bigint[])")
STORED = f"""
    WITH stored AS (
        INSERT INTO log_record ({NAMES}) SELECT {NAMES} FROM log_incoming ORDER BY id ON CONFLICT DO NOTHING
        RETURNING app_name, instance_name, levelname, received_on
    )
"""  # noqa: S608 - names of our own columns
COUNT_STORED = COUNT.format(
    "SELECT app_name, instance_name, levelname, received_on, count(*) FROM stored "
    "GROUP BY app_name, instance_name, levelname, received_on ORDER BY app_name, instance_name, levelname, received_on"
)
TAKE_MISSING = text(STORED + COUNT_STORED)

PARTITION = "log_record_%Y%m%d"
PARTITIONS = text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'log_record'::regclass"
)
SIZES = text(
    "SELECT relname, pg_total_relation_size(inhrelid) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
    "WHERE inhparent = 'log_record'::regclass"
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

    def counts(self, most: int) -> Sequence[Row[str, str, str, int]]:
        """Count records by ``app_name``, ``instance_name`` and ``levelname``; the number comes last.

        Parameters
        ----------
        most
            Instances, those that were heard last.
        """
        return self._connection.execute(COUNTS, {"most": most}).all()

    def apps(self, most: int) -> Sequence[Row[str, int, int, date]]:
        """Return the apps with the numbers of their instances and records, and the last day on which some arrived."""
        return self._connection.execute(APPS, {"most": most}).all()

    def instances(self, app: str | None, most: int) -> Sequence[Row[str, str, int, date]]:
        """Return the instances of one app, or of all, with the number of their records and the last day of arrival."""
        statement = INSTANCES if app is None else INSTANCES.where(_n.app_name == app)
        return self._connection.execute(statement, {"most": most}).all()

    def severe(
        self, instances: Sequence[tuple[str, str]], most: int, characters: int
    ) -> Sequence[Row[str, str, datetime, str, str, str, str, int]]:
        """Return the newest errors of each of these instances, newest first, ``most`` of each.

        Each row is ``app_name`` and ``instance_name``, then what the summary shows of the record; of a message so many
        characters.
        """
        apps, names = [app for app, _ in instances], [name for _, name in instances]
        given = {"apps": apps, "instances": names, "most": most, "characters": characters}
        return self._connection.execute(SEVERE_NEWEST, given).all()

    def histogram(
        self, where: Sequence[ColumnElement[bool]], begin: datetime, end: datetime, step: timedelta
    ) -> Sequence[Row[int, int, int]]:
        """Count records in steps of time from ``begin`` up to but not including ``end``.

        Each row is the number of the step from 0, a level, and how many records of it are there.
        """
        into = func.extract("epoch", _c.timestamp - literal(begin, _c.timestamp.type)) / step.total_seconds()
        number = func.floor(into).label("number")
        statement = select(number, _c.level, func.count()).where(*where, _c.timestamp >= begin, _c.timestamp < end)
        return self._connection.execute(statement.group_by(number, _c.level)).all()

    def found(self, messages: Sequence[str], clause: str) -> list[bool]:
        """Say of each message whether a search for ``clause`` finds it."""
        return list(self._connection.execute(FOUND, {"messages": list(messages), "clause": clause}).scalars())


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
        return sorted(map(_day, self._connection.execute(PARTITIONS).scalars()))

    def sizes(self) -> list[tuple[date, int]]:
        """Return how many bytes each day takes, indexes included, oldest first."""
        return sorted((_day(name), size) for name, size in self._connection.execute(SIZES))

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
        self._connection.execute(delete(log_count).where(log_count.c.received_on < before))
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
        """Store new records, and count them.

        In a connection without a transaction it is one, in a single round trip.

        Parameters
        ----------
        lines
            One a record, in COPY's text form and the order of the table's columns.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As PostgreSQL refuses them; with code 22, 23 or 54 for what is in a record.
        """
        # While they are counted, other replicas wait for the locks of the counts no longer than a commit takes.
        copy(self._connection, COPY.format("log_record"), b"".join(lines), (COUNT_THESE, _counted(lines)))

    def copy_missing(self, lines: Sequence[bytes]) -> None:
        """Store records of which some may be there already, by their id and day of arrival; as `copy`."""
        self._connection.exec_driver_sql(INCOMING)
        copy(self._connection, COPY.format("log_incoming"), b"".join(lines))
        self._connection.execute(TAKE_MISSING)

    def new_inputs(self, messages: Sequence[str]) -> set[str]:
        """Note messages of the stream as taken; return those that were not, each of which is the caller's now."""
        new = insert(log_input).from_select(["message"], select(func.unnest(list(messages)))).on_conflict_do_nothing()
        return set(self._connection.execute(new.returning(log_input.c.message)).scalars())


def _day(name: str) -> date:
    return datetime.strptime(name, PARTITION).replace(tzinfo=UTC).date()


def _counted(lines: Sequence[bytes]) -> tuple[list[str], list[str], list[str], list[date], list[int]]:
    """Count lines by what `log_count` counts; its columns, in the order of its rows."""
    numbers: Counter[tuple[bytes, bytes, bytes, bytes]] = Counter()
    for line in lines:
        _, app, instance, _, _, name, rest = line.split(b"\t", 6)
        numbers[app, instance, name, rest[rest.rindex(b"\t") + 1 : -1]] += 1
    rows = sorted((*(unescaped(each.decode()) for each in key), number) for key, number in numbers.items())
    apps, instances, names, days, counts = zip(*rows, strict=True)
    return list(apps), list(instances), list(names), list(map(date.fromisoformat, days)), list(counts)
