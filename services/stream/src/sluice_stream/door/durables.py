"""Durable subscriptions: topics whose messages are kept for somebody who is away. They lie in a bucket."""

import asyncio
import hashlib
from collections.abc import Iterator

import msgspec
import structlog

from sluice_core.bus import SUBSCRIPTIONS, Bus
from sluice_stream.door.protocol import Violation
from sluice_stream.door.selectors import BadSelector, Selector

__all__ = ["Durable", "Durables"]

log = structlog.get_logger(__name__)


class Durable(msgspec.Struct, frozen=True):
    """One of them.

    Attributes
    ----------
    client_id, name
        Name it.
    owner
        User who may take it and end it.
    """

    client_id: str
    name: str
    owner: str
    destination: str
    selector: str = ""

    @property
    def key(self) -> str:
        """Its key in the bucket and on the bus."""
        return hashlib.sha256(f"{self.client_id}\0{self.name}".encode()).hexdigest()[:32]


class Durables:
    """All of them.

    Parameters
    ----------
    bus
        Has the bucket.
    most
        How many there may be.
    """

    def __init__(self, bus: Bus, most: int) -> None:
        self._bus = bus
        self._most = most
        self._known: dict[str, tuple[Durable, Selector | None]] = {}
        self._read = asyncio.Event()

    def __iter__(self) -> Iterator[Durable]:
        return iter([durable for durable, _ in self._known.values()])

    async def follow(self) -> None:
        """Follow the bucket for ever; a long-lived task."""
        await self._bus.watch(SUBSCRIPTIONS.name, self._on_change, self._read.set)

    async def ready(self) -> None:
        """Wait until all are known."""
        await self._read.wait()

    def _on_change(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._known.pop(key, None)
            return
        try:
            self._know(msgspec.json.decode(value, type=Durable))
        except (msgspec.MsgspecError, BadSelector) as exc:
            log.error("durable subscription cannot be read", key=key, reason=str(exc))

    def _know(self, durable: Durable) -> None:
        self._known[durable.key] = durable, Selector(durable.selector) if durable.selector else None

    def of(self, destination: str) -> list[tuple[Durable, Selector | None]]:
        """Return those that want messages of a topic."""
        return [each for each in self._known.values() if each[0].destination == destination]

    def find(self, wanted: Durable) -> Durable | None:
        """Return the one of this client and name.

        Raises
        ------
        Violation
            It is somebody else's.
        """
        found = self._known.get(wanted.key)
        if found is not None and found[0].owner != wanted.owner:
            raise Violation(f"the durable subscription {wanted.name!r} of {wanted.client_id!r} is somebody else's")
        return found[0] if found else None

    async def keep(self, durable: Durable) -> None:
        """Begin to keep messages for it; returns once that is sure.

        Raises
        ------
        Violation
            There are too many.
        BusAway, StreamRefused
            It is not sure.
        """
        if durable.key not in self._known and len(self._known) >= self._most:
            raise Violation(f"there are {self._most} durable subscriptions already")
        await self._bus.put(SUBSCRIPTIONS.name, durable.key, msgspec.json.encode(durable))
        self._know(durable)

    async def forget(self, durable: Durable) -> None:
        """Keep nothing more for it.

        Raises
        ------
        BusAway, StreamRefused
            It is still there.
        """
        await self._bus.delete(SUBSCRIPTIONS.name, durable.key)
        self._known.pop(durable.key, None)
