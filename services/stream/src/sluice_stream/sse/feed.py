"""The stream ``MESSAGES`` as the source of the hub, and of those who come back."""

import asyncio
import json
import time
from collections.abc import Sequence

import structlog

from sluice_core.bus import MESSAGES, Backoff, Bus, BusError, Message, StreamState, following, stream_state
from sluice_core.http.sse import encode_event
from sluice_stream.sse.event import Event
from sluice_stream.sse.hub import Follower, Hub, reset_event
from sluice_stream.sse.position import Position

__all__ = ["Feed"]

log = structlog.get_logger(__name__)

# Messages before the newest one that a process reads when it starts, for those who come from another replica.
WARM = 1_000
# Events that are handed out before readers get a turn; fewer than the shortest queue holds.
STEP = 50
# Seconds without a message after which it is looked whether the server still answers.
LOOK = 5.0
# Messages in hand of each reader who comes back, and how many of these fetch at once.
BATCH = 64
FETCHING = 8

EXPIRED = "expired"
TOO_MANY = "too_many"
UNKNOWN = "unknown"


class _Lost(Exception):
    """What a reader wants to go on after is not there; the text is the reason."""


class Feed:
    """Reads the stream once for all readers, and again for those who are behind.

    Parameters
    ----------
    replay
        Messages of the stream that a reader may have missed at most.
    """

    def __init__(self, bus: Bus, hub: Hub, *, replay: int) -> None:
        self.replayed = 0
        self._bus = bus
        self._hub = hub
        self._replay = replay
        self._fetching = asyncio.Semaphore(FETCHING)

    # All readers

    async def run(self) -> None:
        """Feed the hub for ever; a supervised task. NATS away: readers wait, and miss nothing."""
        delays = Backoff()
        while True:
            await self._bus.session()
            try:
                async with following(self._bus, MESSAGES.name, self._begin) as stream:
                    delays.reset()
                    while True:
                        batch = await stream.fetch(LOOK if self._hub.ready.is_set() else 0.5)
                        await self._pass_on(batch)
                        if not batch or self._position.sequence >= stream.state.last:
                            self._hub.ready.set()
            except BusError as exc:
                log.warning("messages are not followed", reason=str(exc))
            await delays.wait()

    @property
    def _position(self) -> Position:
        position = self._hub.position
        assert position is not None
        return position

    def _begin(self, state: StreamState) -> int:
        """Say where to go on in the stream as it is now."""
        hub, known = self._hub, self._hub.position
        if known is None:
            hub.begin(Position(state.epoch, max(state.first, state.last - WARM + 1) - 1))
        elif known.epoch != state.epoch:
            # Made anew: all that is in it came since.
            hub.begin(Position(state.epoch, state.first - 1))
            hub.missed(UNKNOWN)
        elif not state.first - 1 <= known.sequence <= state.last:
            after = state.first - 1 if known.sequence < state.first else state.last
            hub.begin(Position(state.epoch, after))
            hub.missed(EXPIRED)
        return self._position.sequence

    async def _pass_on(self, batch: Sequence[Message]) -> None:
        for at in range(0, len(batch), STEP):
            events = [Event.of(message, self._position.epoch) for message in batch[at : at + STEP]]
            if events[-1].sequence != self._position.sequence + len(events):
                self._hub.begin(Position(self._position.epoch, events[0].sequence - 1))
                self._hub.missed(EXPIRED)
            self._hub.feed(events)
            # Whoever is not slow has written it before the next ones come.
            await asyncio.sleep(0)

    # One reader

    async def bring(self, follower: Follower, after: Position | None) -> None:
        """Write what a reader missed, then let it follow.

        Parameters
        ----------
        after
            The last that it got; None: it gave an id that is none of ours.
        """
        lost = "" if after is not None and after.epoch == self._position.epoch else UNKNOWN
        while True:
            try:
                if lost:
                    position = self._position
                    follower.since = position.sequence
                    if follower.resumes:
                        await follower.reader.write(reset_event(lost, position))
                elif after is not None:
                    follower.since = after.sequence
                    await self._insist(after)
                return await self._catch_up(follower)
            except _Lost as exc:
                lost = str(exc)

    def beat(self) -> bytes:
        """Return a heartbeat; who comes back with its id missed nothing of what came before it."""
        data = json.dumps({"timestamp": round(time.time(), 2)})
        return encode_event("heartbeat", data.encode(), str(self._position))

    async def _insist(self, after: Position) -> None:
        """Make sure that an id which we have not come to yet exists."""
        delays = Backoff()
        while after.sequence > self._position.sequence:
            try:
                state = await stream_state(self._bus, MESSAGES.name)
            except BusError:
                await delays.wait()
            else:
                if state.epoch != after.epoch or after.sequence > state.last:
                    raise _Lost(UNKNOWN)
                return

    async def _catch_up(self, follower: Follower) -> None:
        delays, epoch = Backoff(), self._position.epoch
        while not follower.reader.ended:
            if self._position.epoch != epoch:
                raise _Lost(UNKNOWN)
            events = self._hub.after(follower.since)
            if events is None:
                try:
                    await self._from_stream(follower)
                    delays.reset()
                except BusError as exc:
                    log.debug("messages are not replayed", reason=str(exc))
                    await delays.wait()
            elif events:
                await self._write(follower, events)
            else:
                # Nothing may be awaited between the look and this.
                self._hub.join(follower)
                return

    async def _from_stream(self, follower: Follower) -> None:
        """Replay from the stream until the hub has the rest."""

        def begin(state: StreamState) -> int:
            if state.epoch != self._position.epoch:
                raise _Lost(UNKNOWN)
            if follower.since + 1 < state.first:
                raise _Lost(EXPIRED)
            if state.last - follower.since > self._replay:
                raise _Lost(TOO_MANY)
            return follower.since

        async with following(self._bus, MESSAGES.name, begin, batch=BATCH) as stream:
            epoch = stream.state.epoch
            while not follower.reader.ended and self._hub.after(follower.since) is None:
                async with self._fetching:
                    batch = await stream.fetch(1.0)
                events = [Event.of(message, epoch) for message in batch]
                if events and events[0].sequence != follower.since + 1:
                    raise _Lost(EXPIRED)
                await self._write(follower, events)

    async def _write(self, follower: Follower, events: Sequence[Event]) -> None:
        wanted = [event.frame for event in events if follower.filters.match(event.values)]
        self.replayed += len(wanted)
        await follower.reader.replay(wanted)
        if events:
            follower.since = events[-1].sequence
