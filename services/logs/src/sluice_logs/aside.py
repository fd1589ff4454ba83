"""Records in the stream: those that wait there until PostgreSQL is back, and those that programs send by NATS."""

import asyncio
from collections.abc import Sequence

import msgspec

from sluice_core import subjects
from sluice_core.bus import Bus, BusAway, Message, Poison, Rejected, StreamRefused
from sluice_core.rest import Invalid
from sluice_core.rest.validate import mapping
from sluice_logs.bodies import MOST
from sluice_logs.records import Reader, Record
from sluice_logs.writer import Line, LineFull, TooLarge, Writer

__all__ = ["ACCEPTED", "Aside", "LogConsumer"]

# Not below `logs.in`, where programs may publish: what comes here is stored with the ids that it names.
ACCEPTED = "logs.accepted"
SCHEMA = "Sluice-Schema"
LINES = "logs.lines/1"
# For the headers and the server's own.
ROOM = 4096


class Aside:
    """Keeps records in the stream while PostgreSQL is away.

    Parameters
    ----------
    bus
        Which has the stream.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def keep(self, lines: Sequence[Line]) -> None:
        """Store lines in the stream as one message; returns once it is on the server's disk.

        Raises
        ------
        LineFull
            They are not known to be stored.
        """
        data = msgspec.msgpack.encode(lines)
        if len(data) + ROOM > self._bus.max_payload:
            raise TooLarge("PostgreSQL is away, and it is larger than what the bus takes meanwhile")
        first, last = lines[0].key, lines[-1].key
        try:
            await self._bus.publish_stored(ACCEPTED, data, msg_id=f"{first}-{last}", headers={SCHEMA: LINES})
        except BusAway:
            raise LineFull("PostgreSQL and NATS are away") from None
        except StreamRefused as exc:
            raise LineFull(f"PostgreSQL is away, and the stream takes no more ({exc})") from None


class LogConsumer:
    """Door from the bus; a batch is one transaction."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def handle(self, batch: Sequence[Message]) -> list[Rejected]:
        """Store what messages hold, once; returns after the commit.

        Returns
        -------
        list
            Messages that hold something else than records.

        Raises
        ------
        DatabaseAway, LineFull
            They are not known to be stored.
        """
        inputs: list[tuple[str, Sequence[Line]]] = []
        rejected: list[Rejected] = []
        for message in batch:
            try:
                # A stream that was made anew counts from 1 again.
                inputs.append((f"{message.sequence}@{message.at.isoformat()}", await self._lines(message)))
            except Poison as exc:
                rejected.append((message, str(exc)))
        if inputs:
            await self._writer.write_inputs(inputs)
        return rejected

    async def _lines(self, message: Message) -> list[Line]:
        try:
            if message.subject == ACCEPTED:
                return await asyncio.to_thread(msgspec.msgpack.decode, message.data, type=list[Line])
            records = await asyncio.to_thread(self._records, message)
        except (ValueError, RecursionError) as exc:
            raise Poison(str(exc)) from None
        return await self._writer.number(records)

    def _records(self, message: Message) -> list[Record]:
        """Read what a program sent; one bad record spoils its message, which is parked as it came."""
        app, instance = subjects.logs_in(message.subject)
        data = msgspec.json.decode(message.data)
        items = data if isinstance(data, list) else [data]
        if not 0 < len(items) <= MOST:
            raise Poison(f"a message holds 1 to {MOST} records")
        records = []
        for at, item in enumerate(items):
            try:
                records.append(self._reader.take({**mapping(item), "app_name": app, "instance_name": instance}))
            except Invalid as exc:
                raise Poison(f"record {at}: {', '.join(exc.errors)}") from None
        return records
