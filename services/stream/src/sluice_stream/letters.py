"""Dead letters: what could not be processed anywhere, kept for people, who may send it again."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from sluice_core import dlq, subjects
from sluice_core.bus import MESSAGES, Bus, StreamRefused
from sluice_core.bus import Message as Delivery
from sluice_core.database import Database
from sluice_core.retention import BATCH
from sluice_stream.errors import LetterUnknown, NotReplayable
from sluice_stream.intake import Intake, message_id
from sluice_stream.messages import REPLAYED, Malformed, Message, canonical, classify
from sluice_stream.store.letters import LetterStore, Row

__all__ = ["Letters", "Replayed"]

log = structlog.get_logger(__name__)

# What this service may send again. Records of other services are not among it: their subject says who speaks.
AGAIN = ("messages.accepted.", "outbound.", "agents.in.heartbeat.", "logs.in.", "logs.accepted")

CUT = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Replayed:
    """What became of several letters.

    Attributes
    ----------
    replayed
        How many were sent again.
    refused
        Those that cannot be, by id, and why; they stay.
    """

    replayed: int
    refused: dict[UUID, str]


class Letters:
    """Keeps dead letters; every method but `handle` raises `DatabaseAway` when PostgreSQL cannot be reached.

    Parameters
    ----------
    database
        Where they are.
    bus, intake
        Where they go when they are sent again.
    retention
        Age at which they are deleted; zero: never.
    most
        How many are kept, the newest ones.
    """

    def __init__(self, database: Database, bus: Bus, intake: Intake, *, retention: timedelta, most: int) -> None:
        self._database = database
        self._bus = bus
        self._intake = intake
        self._retention = retention
        self._most = most

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Store letters of the stream ``DLQ``; door from the bus, which parks nothing: that would come here again."""
        rows = [_row(delivery) for delivery in batch]
        try:
            await self._add(rows)
        except DBAPIError:
            for row in rows:
                try:
                    await self._add([row])
                except DBAPIError as exc:
                    log.error("dead letter cannot be kept", subject=row["subject"], reason=type(exc.orig).__name__)

    async def _add(self, rows: Sequence[Row]) -> None:
        await self._database.run(self._database.transact, lambda connection: LetterStore(connection).add(rows))

    async def newest(self, after: UUID | None, limit: int, **narrowed: Any) -> Sequence[Row]:
        """Return letters without their data, the newest first.

        Parameters
        ----------
        after
            Go on behind the letter with this id.
        narrowed
            As `LetterStore.newest`.

        Raises
        ------
        LetterUnknown
            There is no letter ``after``.
        """
        rows = await self._database.run(
            lambda: self._database.read(lambda connection: LetterStore(connection).newest(after, limit, **narrowed))
        )
        if rows is None:
            raise LetterUnknown(f"No dead letter has the id {after}.")
        return rows

    async def get(self, key: UUID) -> Row:
        """Return one letter whole.

        Raises
        ------
        LetterUnknown
            There is none.
        """
        row = await self._database.run(lambda: self._database.read(lambda connection: LetterStore(connection).get(key)))
        if row is None:
            raise LetterUnknown(f"No dead letter has the id {key}.")
        return row

    async def delete(self, key: UUID) -> None:
        """Drop a letter.

        Raises
        ------
        LetterUnknown
            There is none.
        """
        gone = await self._database.run(self._database.transact, lambda connection: LetterStore(connection).delete(key))
        if not gone:
            raise LetterUnknown(f"No dead letter has the id {key}.")

    async def replay(self, key: UUID) -> None:
        """Send a letter again to where it was, and drop it here once it is stored there.

        Raises
        ------
        LetterUnknown
            There is none.
        NotReplayable
            It cannot be sent again, and stays.
        BusAway, StreamRefused
            It is not known to be stored, and stays.
        """
        row = await self.get(key)
        await self._send(row)
        with suppress(LetterUnknown):
            # Somebody else was as quick; the stream knows the id.
            await self.delete(key)

    async def replay_all(self, limit: int, **narrowed: Any) -> Replayed:
        """Send the oldest letters again, at most so many.

        Raises
        ------
        BusAway, StreamRefused
            Not all were sent; those that were are gone from here.
        """
        keys = await self._database.run(
            lambda: self._database.read(lambda connection: LetterStore(connection).oldest(limit, **narrowed))
        )
        refused: dict[UUID, str] = {}
        for key in keys:
            try:
                await self.replay(key)
            except NotReplayable as exc:
                refused[key] = exc.detail
            except LetterUnknown:
                continue
        return Replayed(len(keys) - len(refused), refused)

    async def _send(self, row: Row) -> None:
        subject, data, headers = row["subject"], row["data"], row["headers"]
        if subject.endswith(CUT):
            raise NotReplayable("Its subject was too long to be kept.")
        if row["size"] > len(data):
            raise NotReplayable(f"Only {len(data)} of its {row['size']} bytes were kept.")
        if subject.startswith(f"{subjects.MESSAGES_IN}."):
            await self._intake.take(_unread(row))
            return
        if not subject.startswith(AGAIN):
            raise NotReplayable(f"What was on {subject} is not sent again.")
        headers = {name: value for name, value in headers.items() if not name.startswith("Sluice-Dlq-")}
        if row["stream"] == MESSAGES.name:
            headers[REPLAYED] = "1"
        try:
            # An id of its own: the stream may still know that of the message.
            await self._bus.publish_stored(subject, data, msg_id=f"replay-{row['id']}", headers=headers)
        except StreamRefused as exc:
            if exc.permanent:
                raise NotReplayable(str(exc)) from None
            raise

    def forget(self) -> int:
        """Delete some of what is too old or too much and return how many; blocks."""
        count = self._database.transact(
            lambda connection: LetterStore(connection).forget(self._retention, self._most, BATCH)
        )
        if count:
            log.info("dead letters deleted by age or number", count=count)
        return count


def _row(delivery: Delivery) -> Row:
    headers = {_storable(name): _storable(value) for name, value in delivery.headers.items()}
    size = headers.get(dlq.TRUNCATED, "")
    return {
        "id": message_id("letter", str(delivery.sequence), delivery.at.isoformat()),
        "at": delivery.at,
        "stream": headers.get(dlq.STREAM, "")[:100],
        "subject": _subject(delivery),
        "reason": headers.get(dlq.REASON, "unknown"),
        "headers": {name: value for name, value in headers.items() if not name.lower().startswith("nats-")},
        "data": delivery.data,
        "size": int(size) if size.isdecimal() and len(size) < 10 else len(delivery.data),
    }


def _subject(delivery: Delivery) -> str:
    """Return where a letter was, as NATS knows it: a header is its writer's word.

    NATS lets programs publish on ``dlq.in.>``, and a subject that was cut leads nowhere.
    """
    said, known = delivery.headers.get(dlq.SUBJECT, ""), delivery.subject.removeprefix(subjects.dlq(""))
    return known if subjects.dlq(said) == delivery.subject else known + CUT


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _unread(row: Row) -> Message:
    """Read what came in and was not taken; refused here it stays, instead of becoming a letter again."""
    try:
        classify(row["data"])
        destination = canonical(subjects.messages_in(row["subject"]))
    except (Malformed, ValueError) as exc:
        raise NotReplayable(f"Nobody could take it: {exc}") from None
    try:
        # What a stream had carries headers of whoever sent it.
        before = Message.of({} if dlq.SEQUENCE in row["headers"] else row["headers"], row["data"])
    except ValueError:
        return Message(row["id"], destination, datetime.now(UTC), row["data"])
    return Message(before.id, destination, before.at, row["data"])
