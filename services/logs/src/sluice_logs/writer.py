"""Many records in one transaction, each answered after its commit (architecture, "Log pipeline")."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import TypeVar

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sluice_core.database import Database, DatabaseAway
from sluice_logs.days import Days, utc_now
from sluice_logs.records import Record
from sluice_logs.store import RecordStore
from sluice_logs.tables import BLOCK

__all__ = ["Ids", "Line", "LineFull", "Stored", "TooLarge", "Writer"]

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Of one transaction. 10,000 rows take some 0.2 s, which all that come meanwhile wait for.
BATCH_RECORDS = 10_000
BATCH_BYTES = 16 * 2**20
# Of one message of the stream, records larger than that aside.
MESSAGE_BYTES = 2**20
# What the event loop may do at once: some 0.2 ms.
FEW = 100
# Who was answered with the last transaction often comes again at once. So many records are worth to wait for, and so
# many seconds: a transaction costs as much as ten records.
ENOUGH = 16
GATHER = 0.002
# What PostgreSQL says of a record that it does not take: data, constraint, limit.
UNSTORABLE = ("22", "23", "54")
NO_PARTITION = "23514"
# After PostgreSQL was away, seconds until a batch asks for it again.
PAUSE = 1.0


class LineFull(Exception):
    """The record is not stored: too much waits already, or nothing can take it now."""


class TooLarge(LineFull):
    """These records are more than the bus takes at once; others may find their way."""


class Ids:
    """Ids that this process has reserved; so each is known before its record is written."""

    def __init__(self) -> None:
        # Two blocks at the most. Only complete ranges are put in or taken out, which the interpreter does at once.
        self._ranges: deque[tuple[int, int]] = deque()

    @property
    def low(self) -> bool:
        """Whether it is time to reserve another block."""
        return sum(end - begin for begin, end in tuple(self._ranges)) < BLOCK // 2

    def add(self, first: int) -> None:
        """Add a block."""
        self._ranges.append((first, first + BLOCK))

    def take(self, count: int) -> int:
        """Return the first of so many ids in a row.

        Raises
        ------
        LineFull
            So many are not left.
        """
        while self._ranges:
            begin, end = self._ranges[0]
            if end - begin >= count:
                self._ranges[0] = (begin + count, end)
                return begin
            self._ranges.popleft()
        raise LineFull("no ids are left")


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What PostgreSQL copies of one record, and what names it."""

    key: int
    day: date
    text: bytes


@dataclass(frozen=True)
class Stored:
    """What became of records that were written together.

    Attributes
    ----------
    first
        Id of the first; the others follow in their order.
    refused
        Indexes of those that PostgreSQL did not take; all others are stored, or none when they were to be stored
        together.
    """

    first: int
    refused: frozenset[int]


@dataclass(eq=False)
class _Job:
    lines: list[Line]
    size: int
    together: bool
    done: "asyncio.Future[frozenset[int]]" = field(repr=False)


Later = Callable[[Sequence[Line]], Awaitable[None]]
"""Keeps lines until PostgreSQL is back, all or none; raises `LineFull`."""


class Writer:
    """Takes records and stores all that came while the last transaction ran in the next one.

    Parameters
    ----------
    database
        Where they go.
    days
        Makes the partition of a day that has none.
    later
        Where they go while PostgreSQL is away.
    tell
        Gets the lines of what was stored; never waits.
    waiting
        Bytes that may wait; `LineFull` beyond it.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        database: Database,
        days: Days,
        *,
        later: Later,
        tell: Callable[[Iterable[bytes]], None] = lambda _: None,
        waiting: int = 64 * 2**20,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._days = days
        self._later = later
        self._tell = tell
        self._most = waiting
        self._now = now
        self._ids = Ids()
        self._queue: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._away_until = 0.0
        self._expected = 0
        self._enough: asyncio.Future[None] | None = None
        self.waiting = 0
        """Bytes of records that are not answered yet."""
        self.waiting_records = 0
        """Their number."""
        self.stored = 0
        """Records that went into the table."""
        self.batches = 0
        """Transactions that it took."""
        self.aside = 0
        """Records that the stream has taken while PostgreSQL was away."""
        self.refused = 0
        """Records that PostgreSQL does not take."""
        self.full = 0
        """Records that nothing took."""

    async def open(self) -> None:
        """Reserve ids; blocks nobody.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        await self._database.run(self._reserve)

    async def write(self, records: Sequence[Record], *, together: bool = False) -> Stored:
        """Store records; returns after the commit, or when the stream has them while PostgreSQL is away.

        Parameters
        ----------
        records
            One at least.
        together
            All or none.

        Raises
        ------
        LineFull
            Nothing is known to be stored.
        """
        size = sum(len(record.columns) + len(record.shown) for record in records)
        if self.waiting and self.waiting + size > self._most:
            self.full += len(records)
            raise LineFull("too many records wait")
        self._waits(size, len(records))
        try:
            lines = await self.number(records)
        except BaseException:
            self._waits(-size, -len(records))
            raise
        return Stored(lines[0].key, await self._put(lines, size, together))

    async def number(self, records: Sequence[Record]) -> list[Line]:
        """Give records their ids and today's date.

        Raises
        ------
        LineFull
            No ids are left; more come as soon as PostgreSQL is back.
        """
        first, day = self._ids.take(len(records)), self._now().date()
        if len(records) <= FEW:
            return _lines(records, first, day)
        return await asyncio.to_thread(_lines, records, first, day)

    async def write_inputs(self, inputs: Sequence[tuple[str, Sequence[Line]]]) -> None:
        """Store what messages of the stream hold, of each message once; returns after the commit.

        Raises
        ------
        DatabaseAway
            They are not known to be stored.
        sqlalchemy.exc.DBAPIError
            PostgreSQL does not take one of them.
        """
        lines = [line for _, found in inputs for line in found]
        new = await self._database.run(self._with_days, lines, partial(self._take, inputs))
        self.batches += 1
        self.stored += sum(len(found) for message, found in inputs if message in new)
        self._tell(line.text for message, found in inputs if message in new for line in found)

    async def run(self) -> None:
        """Store what comes, for ever; a long-lived task."""
        batch: list[_Job] = []
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                batch = self._next()
                await self._settle(batch)
                self._expected = min(ENOUGH, len(batch) + len(self._queue))
                self._waits(-sum(job.size for job in batch), -sum(len(job.lines) for job in batch))
        finally:
            for job in (*batch, *self._queue):
                job.done.cancel()

    async def _gather(self) -> None:
        """Wait a little for as many as came lately; a single client never waits."""
        if len(self._queue) >= self._expected or any(len(job.lines) >= ENOUGH for job in self._queue):
            return
        loop = asyncio.get_running_loop()
        self._enough = enough = loop.create_future()
        limit = loop.call_later(GATHER, _arrived, enough)
        try:
            await enough
        finally:
            limit.cancel()
            self._enough = None

    def _waits(self, size: int, records: int) -> None:
        self.waiting += size
        self.waiting_records += records

    async def _put(self, lines: list[Line], size: int, together: bool) -> frozenset[int]:
        job = _Job(lines, size, together, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._arrived.set()
        if self._enough is not None and (len(self._queue) >= self._expected or len(lines) >= ENOUGH):
            _arrived(self._enough)
        return await job.done

    def _next(self) -> list[_Job]:
        batch: list[_Job] = []
        records = size = 0
        while self._queue:
            job = self._queue[0]
            records, size = records + len(job.lines), size + job.size
            if batch and (records > BATCH_RECORDS or size > BATCH_BYTES):
                return batch
            batch.append(self._queue.popleft())
        self._arrived.clear()
        return batch

    async def _settle(self, batch: Sequence[_Job]) -> None:
        try:
            if time.monotonic() < self._away_until:
                raise DatabaseAway("PostgreSQL was away a moment ago")
            refused = await self._database.run(self._store, batch)
        except DatabaseAway as exc:
            if time.monotonic() > self._away_until:
                log.warning("records go to the stream", reason=str(exc))
                self._away_until = time.monotonic() + PAUSE
            await self._postpone(batch)
        except Exception as exc:
            for job in batch:
                _fail(job, exc)
        else:
            self.batches += 1
            for job, found in zip(batch, refused, strict=True):
                self.refused += len(found)
                self.stored += 0 if found and job.together else len(job.lines) - len(found)
                _succeed(job, found)
            self._tell(_stored(batch, refused))

    async def _postpone(self, batch: Sequence[_Job]) -> None:
        """Hand a batch to the stream, in order; once it takes no more, nothing that comes after."""
        failure: LineFull | None = None
        for group in _messages(batch):
            try:
                if failure is not None:
                    raise failure
                (only, *others) = group
                parts = [group] if others or only.together else _parts(only)
                for part in parts:
                    await self._later([line for job in part for line in job.lines])
            except LineFull as exc:
                if not isinstance(exc, TooLarge):
                    # PostgreSQL may be back before the bus is.
                    failure, self._away_until = exc, 0.0
                for job in group:
                    self.full += len(job.lines)
                    _fail(job, exc)
            else:
                for job in group:
                    self.aside += len(job.lines)
                    _succeed(job, frozenset())

    def _store(self, batch: Sequence[_Job]) -> list[frozenset[int]]:
        """Store a batch; return of each job what PostgreSQL does not take. Blocks."""
        if self._ids.low:
            self._reserve()
        lines = list(chain.from_iterable(job.lines for job in batch))
        try:
            self._write(lines)
        except DBAPIError as exc:
            if not _is_refusal(exc):
                raise
        else:
            return [frozenset()] * len(batch)
        bad = {line.key for line in self._unstorable(lines)}
        refused = [frozenset(at for at, line in enumerate(job.lines) if line.key in bad) for job in batch]
        log.warning("records cannot be stored", size=len(bad))
        good = [
            line
            for job, found in zip(batch, refused, strict=True)
            if not (job.together and found)
            for line in job.lines
            if line.key not in bad
        ]
        if good:
            self._write(good)
        return refused

    def _write(self, lines: Sequence[Line]) -> None:
        """Write lines in one transaction, also when the answer to its commit was lost."""
        begun = False

        def copy(connection: Connection) -> None:
            nonlocal begun
            if begun:
                raise DatabaseAway("the answer was lost")
            begun = True
            _copy(lines, connection)

        try:
            self._database.single(copy)
            return
        except DatabaseAway:
            # Nobody knows whether they are there.
            pass
        except DBAPIError as exc:
            if not _is_without_day(exc):
                raise
        self._with_days(lines, partial(_copy_missing, lines))

    def _with_days(self, lines: Sequence[Line], work: Callable[[Connection], T]) -> T:
        try:
            return self._database.transact(work)
        except DBAPIError as exc:
            if not _is_without_day(exc):
                raise
            self._days.make({line.day for line in lines})
            return self._database.transact(work)

    def _unstorable(self, lines: Sequence[Line]) -> list[Line]:
        """Find the lines that PostgreSQL does not take, by halves."""
        try:
            self._database.transact(partial(_try, lines))
        except DBAPIError as exc:
            if not _is_refusal(exc):
                raise
            if len(lines) == 1:
                return list(lines)
            half = len(lines) // 2
            return self._unstorable(lines[:half]) + self._unstorable(lines[half:])
        return []

    def _take(self, inputs: Sequence[tuple[str, Sequence[Line]]], connection: Connection) -> set[str]:
        store = RecordStore(connection)
        new = store.new_inputs([message for message, _ in inputs])
        store.copy_missing([line.text for message, found in inputs if message in new for line in found])
        return new

    def _reserve(self) -> None:
        self._ids.add(self._database.transact(lambda connection: RecordStore(connection).reserve()))


def _lines(records: Sequence[Record], first: int, day: date) -> list[Line]:
    return [Line(key, day, record.line(key, day)) for key, record in enumerate(records, first)]


def _stored(batch: Sequence[_Job], refused: Sequence[frozenset[int]]) -> Iterator[bytes]:
    for job, found in zip(batch, refused, strict=True):
        if not (job.together and found):
            yield from (line.text for at, line in enumerate(job.lines) if at not in found)


def _copy(lines: Sequence[Line], connection: Connection) -> None:
    RecordStore(connection).copy([line.text for line in lines])


def _copy_missing(lines: Sequence[Line], connection: Connection) -> None:
    RecordStore(connection).copy_missing([line.text for line in lines])


def _try(lines: Sequence[Line], connection: Connection) -> None:
    _copy(lines, connection)
    connection.rollback()


def _messages(batch: Sequence[_Job]) -> Iterator[list[_Job]]:
    """Yield what fits one message of the stream; a job that is larger comes alone."""
    group: list[_Job] = []
    size = 0
    for job in batch:
        if group and size + job.size > MESSAGE_BYTES:
            yield group
            group, size = [], 0
        group.append(job)
        size += job.size
    yield group


def _parts(job: _Job) -> Iterator[list[_Job]]:
    """Yield the lines of a large job in pieces of their own."""
    piece: list[Line] = []
    size = 0
    for line in job.lines:
        if piece and size + len(line.text) > MESSAGE_BYTES:
            yield [replace(job, lines=piece)]
            piece, size = [], 0
        piece.append(line)
        size += len(line.text)
    yield [replace(job, lines=piece)]


def _arrived(enough: asyncio.Future[None]) -> None:
    if not enough.done():
        enough.set_result(None)


def _succeed(job: _Job, refused: frozenset[int]) -> None:
    if not job.done.done():
        job.done.set_result(refused)


def _fail(job: _Job, exc: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(exc)


def _is_refusal(exc: DBAPIError) -> bool:
    return str(getattr(exc.orig, "pgcode", "")).startswith(UNSTORABLE)


def _is_without_day(exc: DBAPIError) -> bool:
    # A constraint of a column has a name.
    found = getattr(exc.orig, "diag", None)
    return getattr(exc.orig, "pgcode", "") == NO_PARTITION and found is not None and found.constraint_name is None
