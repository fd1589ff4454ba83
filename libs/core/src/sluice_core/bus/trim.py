"""Room in replay streams, which keep what was read and refuse what is new when they are full."""

import asyncio
from typing import Any

import structlog

from .client import Bus
from .errors import BusError
from .session import ApiError, Session
from .streams import Stream

__all__ = ["keep_room"]

log = structlog.get_logger(__name__)

# Shares of a stream's bytes: above the first it is trimmed, to the second. What is left can still be replayed.
HIGH = 0.8
LOW = 0.6


async def keep_room(bus: Bus, stream: Stream, *, every: float = 60.0) -> None:
    """Drop the oldest messages of a stream that fills up, as far as every durable consumer has acknowledged them.

    For the owner of a stream with ``discard="new"``; run it as a supervised task. Several replicas may.

    Parameters
    ----------
    every
        Seconds between two looks.
    """
    while True:
        session = await bus.session()
        try:
            await _trim(session, stream)
        except (ApiError, BusError) as exc:
            log.warning("stream is not trimmed", stream=stream.name, reason=str(exc))
        await asyncio.sleep(every)


async def _trim(session: Session, stream: Stream) -> None:
    state = (await session.api(f"STREAM.INFO.{stream.name}"))["state"]
    if state["bytes"] < HIGH * stream.max_bytes:
        return
    first, last = state["first_seq"], state["last_seq"]
    # As if all messages were of one size; a second look a minute later mends the rest.
    enough = first + int((last - first + 1) * (1 - LOW * stream.max_bytes / state["bytes"]))
    acknowledged = {
        consumer["name"]: consumer["ack_floor"]["stream_seq"]
        for consumer in await _consumers(session, stream.name)
        if consumer["config"].get("durable_name")
    }
    behind = {name: sequence for name, sequence in acknowledged.items() if sequence + 1 < enough}
    until = min([enough, *(sequence + 1 for sequence in behind.values())])
    if behind:
        log.warning("stream fills up", stream=stream.name, bytes=state["bytes"], behind=behind)
    if until > first:
        # Up to this sequence, without it.
        await session.api(f"STREAM.PURGE.{stream.name}", {"seq": until})
        log.info("stream trimmed", stream=stream.name, messages=until - first)


async def _consumers(session: Session, stream: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await session.api(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        found += page["consumers"] or []
        if len(found) >= page["total"] or not page["consumers"]:
            return found
