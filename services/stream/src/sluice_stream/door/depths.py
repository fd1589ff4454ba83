"""How much waits in the streams of the door."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from sluice_core import subjects
from sluice_core.bus import DURABLES, QUEUES, Bus, BusError, waiting

__all__ = ["Depths", "Destination", "look"]

log = structlog.get_logger(__name__)

EVERY = 10.0


@dataclass(frozen=True)
class Destination:
    """A queue, or the part of one that is for a namespace."""

    queue: str
    namespace: str | None


@dataclass
class Depths:
    """Messages that nobody has acknowledged, as they were a moment ago.

    Attributes
    ----------
    queues
        By queue.
    durables
        By the key of a durable subscription.
    """

    queues: Mapping[Destination, int] = field(default_factory=dict)
    durables: Mapping[str, int] = field(default_factory=dict)

    async def follow(self, bus: Bus) -> None:
        """Look again and again, for ever; a long-lived task."""
        while True:
            try:
                found = await look(bus)
                self.queues, self.durables = found.queues, found.durables
            except BusError as exc:
                log.info("depths of queues are not known", reason=str(exc))
            await asyncio.sleep(EVERY)


async def look(bus: Bus) -> Depths:
    """Ask how much waits.

    Raises
    ------
    BusAway, StreamRefused
        Nobody says so.
    """
    queues: dict[Destination, int] = {}
    for subject, count in (await waiting(bus, QUEUES.name)).items():
        try:
            queues[Destination(*subjects.queued_for(subject))] = count
        except ValueError:
            continue
    durables = {subject.rpartition(".")[2]: count for subject, count in (await waiting(bus, DURABLES.name)).items()}
    return Depths(queues, durables)
