"""Records as they are stored, for who watches: told by core NATS after the commit, so that every replica sees all."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg
from sqlalchemy.exc import DBAPIError

from sluice_core.bus import Bus
from sluice_core.database import Database, DatabaseAway
from sluice_core.http.sse import Reader, encode_event
from sluice_core.rest import Invalid
from sluice_core.rest.fields import FieldError
from sluice_logs.records import shown
from sluice_logs.resources import EXTRA, LOGS
from sluice_logs.store import LogStore

__all__ = ["Tail", "Wanted"]

log = structlog.get_logger(__name__)

RECORDS = "logs.tail.records"
WATCHING = "logs.tail.watching"
# Seconds between two words that somebody watches, and those after which a replica believes that nobody does.
SAY = 2.0
BELIEVE = 5.0
# Bytes of lines in one message, and of what waits to be sent, or to be looked at. What is beyond is not shown.
MESSAGE = 512 * 1024
WAITING = 16 * 2**20
# Bytes of one event; of a longer record the beginning of its message is shown.
LONGEST = 64 * 1024
BEGINNING = 8000

Row = dict[str, Any]
Lines = Sequence[bytes]


class Wanted:
    """The filters of a list, for records that are in nobody's table yet.

    Parameters
    ----------
    query
        As of a list.

    Attributes
    ----------
    search
        What only PostgreSQL can look for; None when everything is wanted.

    Raises
    ------
    Invalid
        Each value that cannot be read.
    """

    def __init__(self, query: Mapping[str, str], zone: tzinfo) -> None:
        self._checks: list[Callable[[Row], bool]] = []
        self.search: str | None = None
        errors: dict[str, list[str]] = {}
        for each in LOGS.filtering:
            if not (raw := query.get(each.name)):
                continue
            try:
                value = each.field.filter_value(raw, zone)
            except FieldError as exc:
                errors[each.name] = list(exc.args)
                continue
            if each.name == "search":
                self.search = value
            else:
                self._checks.append(partial(CHECKS[each.name], value))
        if errors:
            raise Invalid(errors)

    def __call__(self, row: Row) -> bool:
        """Tell whether a record is wanted, as far as anybody but PostgreSQL can tell."""
        return all(check(row) for check in self._checks)


def _equal(name: str, value: Any, row: Row) -> bool:
    return bool(row[name] == value)


def _extra(name: str, value: str, row: Row) -> bool:
    raw = row["extra_data"]
    found = json.loads(bytes(raw)) if raw is not None else None
    if not isinstance(found, dict) or name not in found or found[name] is None:
        return False
    one = found[name]
    return value == (one if isinstance(one, str) else json.dumps(one))


CHECKS: dict[str, Callable[[Any, Row], bool]] = {
    **{name: partial(_equal, name) for name in ("app_name", "instance_name", "level", "levelname")},
    **{name: partial(_extra, name) for name in EXTRA},
    "level__gte": lambda value, row: row["level"] >= value,
    "start_time": lambda value, row: row["timestamp"] >= value,
    "end_time": lambda value, row: row["timestamp"] <= value,
}


class _Line:
    """What waits for a task: bounded in bytes, the oldest goes first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Lines]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self.lost = 0

    def put(self, lines: Lines) -> None:
        size = sum(map(len, lines))
        self._waiting.append((size, lines))
        self._size += size
        while self._size > WAITING and len(self._waiting) > 1:
            gone, lost = self._waiting.popleft()
            self._size -= gone
            self.lost += len(lost)
        self._news.set()

    async def get(self) -> Lines:
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        size, lines = self._waiting.popleft()
        self._size -= size
        return lines


class Tail:
    """Tells what was stored to who watches, in this process and in the others.

    Parameters
    ----------
    bus
        Carries records between replicas; while it is away, those of this one are shown.
    database
        Knows what a search finds.
    zone
        In which times are shown.
    """

    def __init__(self, bus: Bus, database: Database, zone: tzinfo) -> None:
        self._bus = bus
        self._database = database
        self._zone = zone
        self._watchers: dict[Reader, Wanted] = {}
        self._came = asyncio.Event()
        self._heard = float("-inf")
        self._outgoing = _Line()
        self._incoming = _Line()

    @property
    def watchers(self) -> int:
        """How many watch in this process."""
        return len(self._watchers)

    @property
    def lost(self) -> int:
        """Records that were shown to nobody, as too many came at once."""
        return self._outgoing.lost + self._incoming.lost

    @contextlib.asynccontextmanager
    async def watching(self, reader: Reader, wanted: Wanted) -> AsyncIterator[None]:
        """Offer a reader the records that it wants, from now on until the end of the block."""
        self._watchers[reader] = wanted
        self._came.set()
        await self._bus.publish(WATCHING, b"")
        try:
            yield
        finally:
            del self._watchers[reader]

    def tell(self, lines: Iterable[bytes]) -> None:
        """Take what was stored; never waits, and costs nothing while nobody watches."""
        if self._watchers or asyncio.get_running_loop().time() - self._heard < BELIEVE:
            self._outgoing.put(list(lines))

    async def run(self) -> None:
        """Carry records, for ever; a long-lived task."""
        async with asyncio.TaskGroup() as tasks:
            for loop in (self._say, self._send, self._listen, self._show):
                tasks.create_task(loop())

    async def _say(self) -> None:
        while True:
            self._came.clear()
            if self._watchers:
                await self._bus.publish(WATCHING, b"")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAY if self._watchers else None):
                    await self._came.wait()

    async def _send(self) -> None:
        while True:
            lines = await self._outgoing.get()
            for piece in _pieces(lines):
                if not await self._bus.publish(RECORDS, msgspec.msgpack.encode(piece)):
                    self._incoming.put(piece)

    async def _listen(self) -> None:
        while True:
            session = await self._bus.session()
            gone = asyncio.Event()
            session.when_lost(gone.set)
            for subject, take in ((WATCHING, self._on_watching), (RECORDS, self._on_records)):
                await session.subscribe(subject, take)
            if self._watchers:
                await self._bus.publish(WATCHING, b"")
            await gone.wait()

    async def _on_watching(self, _: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()

    async def _on_records(self, message: Msg) -> None:
        if self._watchers:
            try:
                self._incoming.put(msgspec.msgpack.decode(message.data, type=list[bytes]))
            except msgspec.MsgspecError as exc:
                log.warning("no records", subject=RECORDS, reason=str(exc))

    async def _show(self) -> None:
        while True:
            lines = await self._incoming.get()
            if not self._watchers:
                continue
            rows = await asyncio.to_thread(_rows, lines, self._zone)
            events: dict[int, bytes] = {}
            found: dict[str, list[bool]] = {}
            for reader, wanted in list(self._watchers.items()):
                if wanted.search is not None and wanted.search not in found:
                    found[wanted.search] = await self._search(rows, wanted.search)
                hits = found[wanted.search] if wanted.search is not None else [True] * len(rows)
                for row, hit in zip(rows, hits, strict=True):
                    if hit and wanted(row):
                        event = events.get(row["id"])
                        if event is None:
                            event = events[row["id"]] = _event(row)
                        reader.offer(event)
                # Others want to be served between two readers.
                await asyncio.sleep(0)

    async def _search(self, rows: Sequence[Row], clause: str) -> list[bool]:
        messages = [row["message"] for row in rows]
        question = partial(self._database.read, lambda connection: LogStore(connection).found(messages, clause))
        try:
            return await self._database.run(question)
        except (DatabaseAway, DBAPIError) as exc:
            log.warning("records are not searched", size=len(rows), reason=str(exc))
            return [False] * len(rows)


def _pieces(lines: Lines) -> list[list[bytes]]:
    pieces: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if pieces[-1] and size + len(line) > MESSAGE:
            pieces.append([])
            size = 0
        pieces[-1].append(line)
        size += len(line)
    return pieces


def _rows(lines: Lines, zone: tzinfo) -> list[Row]:
    try:
        return [shown(line, zone) for line in lines]
    except (ValueError, KeyError) as exc:
        # A replica of another version may have other columns.
        log.warning("records are not understood", size=len(lines), reason=repr(exc))
        return []


def _event(row: Row) -> bytes:
    data = msgspec.json.encode(row)
    if len(data) > LONGEST:
        data = msgspec.json.encode({**row, "message": row["message"][:BEGINNING], "extra_data": None})
    return encode_event("log", data)
