"""What waits in a queue, and who gets it: each message is one consumer's at a time, until he has acknowledged it."""

import asyncio
import time
from bisect import insort
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from sluice_core import dlq
from sluice_core.bus import Bus, BusError, Message, Queue
from sluice_stream.door.post import Post

__all__ = ["MOST", "TRIES", "Backlog", "Counts", "Held", "Settler", "Taker", "Tried"]

log = structlog.get_logger(__name__)

# Messages of one queue in hand. Those that nobody present wants stay among them, as with the page of a broker.
MOST = 256
# Consumers that may say NACK to a message before it is parked.
TRIES = 5
REMEMBERED = 10_000

Key = tuple[int, datetime]
"""A stream that is made anew counts from 1 again."""


@dataclass
class Counts:
    """What became of messages in queues.

    Attributes
    ----------
    delivered, acknowledged, redelivered, expired, parked
        How many.
    lost
        Those that the stream did not take for a durable subscription.
    """

    delivered: int = 0
    acknowledged: int = 0
    redelivered: int = 0
    expired: int = 0
    parked: int = 0
    lost: int = 0


@dataclass(eq=False)
class Held:
    """A message in hand.

    Attributes
    ----------
    redelivered
        Somebody had it before and did not acknowledge it.
    """

    backlog: "Backlog" = field(repr=False)
    message: Message
    post: Post
    redelivered: bool = False

    @property
    def key(self) -> Key:
        """Its place."""
        return self.message.sequence, self.message.at


class Tried:
    """Which messages somebody had and did not acknowledge, and how often one was refused; the last ten thousand."""

    def __init__(self) -> None:
        self._refused: OrderedDict[UUID, int] = OrderedDict()

    def __contains__(self, known: UUID) -> bool:
        return known in self._refused

    def note(self, known: UUID, *, refused: bool = False) -> int:
        """Remember one; returns how often it was refused."""
        count = self._refused[known] = self._refused.get(known, 0) + refused
        self._refused.move_to_end(known)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
        return count

    def forget(self, known: UUID) -> None:
        """Forget one that is done with."""
        self._refused.pop(known, None)


class Taker(Protocol):
    """Whoever takes messages of a queue."""

    @property
    def choosy(self) -> bool:
        """Whether it leaves some to others."""
        ...

    def room(self) -> bool:
        """Whether it takes one more now."""
        ...

    def wants(self, post: Post) -> bool:
        """Whether this one is for it."""
        ...

    def take(self, held: Held) -> None:
        """Take it; it ends with one of `Backlog.done`, `Backlog.back` and `Backlog.refuse`."""
        ...


class Settler:
    """Tells the bus what is done with, in order and soon.

    Parameters
    ----------
    bus
        Has the streams.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[tuple[Message, str]] = deque()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def done(self, message: Message, reason: str = "") -> None:
        """Drop a message from its stream, or park it for a reason; what fails comes again."""
        self._waiting.append((message, reason))
        self._idle.clear()
        self._news.set()

    async def settled(self) -> None:
        """Wait until the server knows all that was said so far."""
        await self._idle.wait()

    async def run(self) -> None:
        """Work for ever; a long-lived task."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(128, len(self._waiting)))]
                failed = await asyncio.gather(*(self._settle(*each) for each in some), return_exceptions=True)
                for failure in failed:
                    if isinstance(failure, BusError):
                        log.warning("an acknowledged message may come again", reason=str(failure))
                    elif failure is not None:
                        raise failure
            self._idle.set()

    async def _settle(self, message: Message, reason: str) -> None:
        if reason:
            # Parks it, and takes it out of its stream.
            await dlq.park(self._bus, message, reason)
        else:
            await message.settle()


class Backlog:
    """The messages of one subject, read while somebody takes them.

    Parameters
    ----------
    queue
        Where they are.
    settler
        Whom to tell what is done with.
    counts
        Where to count.
    tried
        What others had before.
    """

    def __init__(self, queue: Queue, settler: Settler, counts: Counts, tried: Tried) -> None:
        self._queue = queue
        self._settler = settler
        self._counts = counts
        self._tried = tried
        self._takers: list[Taker] = []
        self._turn = 0
        self._held: dict[Key, Held] = {}
        self._waiting: list[Key] = []
        self._reading: asyncio.Task[None] | None = None

    @property
    def takers(self) -> int:
        """How many take its messages."""
        return len(self._takers)

    @property
    def out(self) -> int:
        """How many messages wait for an ACK."""
        return len(self._held) - len(self._waiting)

    def join(self, taker: Taker) -> None:
        """Let somebody take messages."""
        self._takers.append(taker)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="queue of the STOMP door")
        self.dispatch()

    def leave(self, taker: Taker) -> None:
        """Give nothing more to somebody, who has given back what he had."""
        if taker in self._takers:
            self._takers.remove(taker)
        if not self._takers:
            self.close()
        else:
            self.dispatch()

    def close(self) -> None:
        """Let everything go: it stays in the stream."""
        self._takers.clear()
        self._held.clear()
        self._waiting.clear()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read(self) -> None:
        # What was acknowledged a moment ago must not come again.
        await self._settler.settled()
        await self._queue.read(self._arrived)

    def _arrived(self, message: Message) -> None:
        key = message.sequence, message.at
        known = self._held.get(key)
        if known is not None:
            # Delivered again after a loss of the connection: now it is acknowledged there.
            known.message = message
            return
        try:
            post = Post.of(message)
        except ValueError as exc:
            self._settler.done(message, f"no message of the door: {exc}")
            return
        self._held[key] = Held(self, message, post, redelivered=post.id in self._tried)
        insort(self._waiting, key)
        self.dispatch()

    def dispatch(self) -> None:
        """Give what waits to those who have room, in turns."""
        at = 0
        while at < len(self._waiting) and self._takers:
            held = self._held[self._waiting[at]]
            if held.post.expires and held.post.expires < time.time() * 1000:
                del self._waiting[at]
                self._counts.expired += 1
                self._drop(held)
                continue
            free = [each for each in self._in_turn() if each.room()]
            taker = next((each for each in free if each.wants(held.post)), None)
            if taker is not None:
                del self._waiting[at]
                self._turn = (self._takers.index(taker) + 1) % len(self._takers)
                self._counts.delivered += 1
                self._counts.redelivered += held.redelivered
                taker.take(held)
            elif free and any(each.choosy for each in self._takers):
                at += 1
            else:
                return

    def _in_turn(self) -> list[Taker]:
        turn = self._turn % len(self._takers)
        return self._takers[turn:] + self._takers[:turn]

    def done(self, held: Held) -> None:
        """It was processed."""
        if self._held.get(held.key) is held:
            self._counts.acknowledged += 1
            self._drop(held)

    def back(self, held: Held) -> None:
        """Nobody knows whether it was processed: it is for whoever comes next, in its old place."""
        self._tried.note(held.post.id)
        if self._held.get(held.key) is held:
            held.redelivered = True
            insort(self._waiting, held.key)

    def refuse(self, held: Held) -> None:
        """It could not be processed; after some tries it is parked."""
        if self._held.get(held.key) is not held:
            return
        if self._tried.note(held.post.id, refused=True) < TRIES:
            self.back(held)
            # Not at once: who has just refused it may be the only one here, and has more to say.
            asyncio.get_running_loop().call_soon(self.dispatch)
        else:
            self._counts.parked += 1
            self._drop(held, f"{TRIES} times a consumer answered NACK")

    def _drop(self, held: Held, reason: str = "") -> None:
        del self._held[held.key]
        self._tried.forget(held.post.id)
        self._settler.done(held.message, reason)
