"""Work through a stream in batches; what cannot be processed is parked and never blocks what comes after it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import structlog

from sluice_core import dlq

from .backoff import Backoff
from .client import Bus, ConsumerState
from .errors import BusError, StreamDiffers, StreamRefused
from .message import Message
from .pull import ConsumerGone, Pull
from .session import ApiError, Session
from .streams import Consumer, ensure_consumer

__all__ = ["Handle", "Poison", "Rejected", "consume"]

log = structlog.get_logger(__name__)

Rejected = tuple[Message, str]
"""A message that can never be processed, and why."""

Handle = Callable[[list[Message]], Awaitable[Iterable[Rejected] | None]]
"""Processes a batch; returns what it left out because no retry can mend it."""

# While nothing comes, this often it is looked whether the server still answers.
_LOOK = 5.0
# Seconds until a message is tried again that could neither be processed nor parked.
_UNPARKED = 60.0
_LONGEST_NAK = 60.0
_NOT_CREATED = 10012


class Poison(Exception):
    """This message can never be processed; the text says why, without quoting its data."""


class _Stopped(Exception):
    """The process ends while a batch waits for an outage to pass."""


async def consume(
    bus: Bus,
    consumer: Consumer,
    handle: Handle,
    stop: asyncio.Event,
    *,
    outage: tuple[type[Exception], ...] = (),
) -> None:
    """Hand the messages of a stream to ``handle``, until ``stop`` is set; run it as a supervised, graceful task.

    A batch is acknowledged after ``handle`` returned, so a message may come twice. When a batch fails, its messages
    are handed over one by one; those that fail alone come again, 2, 4, 8 ... seconds later, and are parked after
    ``consumer.tries`` deliveries.

    Parameters
    ----------
    handle
        Gets one to ``consumer.batch`` messages; returns the ones that can never be processed, or raises `Poison` when
        it was given one alone.
    outage
        Exceptions that say nothing about the messages, such as `DatabaseAway`: the batch is kept and tried until it
        works, and that does not count as a try.

    Raises
    ------
    StreamDiffers
        The consumer exists in a shape that cannot be changed.
    """
    state = bus.consumers.setdefault(consumer.durable, ConsumerState())
    work = _Work(bus, consumer, handle, stop, outage, state)
    delays = Backoff()
    while not stop.is_set():
        session = await _session(bus, stop)
        if session is None:
            return
        try:
            await work.through(session, delays)
        except (ApiError, ConsumerGone, BusError) as exc:
            if isinstance(exc, ApiError) and (exc.code == 400 or exc.err_code == _NOT_CREATED):
                raise StreamDiffers(f"consumer {consumer.durable} of {consumer.stream}: {exc}") from exc
            log.warning("nothing to consume", stream=consumer.stream, consumer=consumer.durable, reason=str(exc))
        await delays.wait(stop)


async def _session(bus: Bus, stop: asyncio.Event) -> Session | None:
    waiting = asyncio.ensure_future(bus.session())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        stopped.cancel()


class _Work:
    """What `consume` knows while it runs."""

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        handle: Handle,
        stop: asyncio.Event,
        outage: tuple[type[Exception], ...],
        state: ConsumerState,
    ) -> None:
        self._bus = bus
        self._consumer = consumer
        self._handle = handle
        self._stop = stop
        self._outage = outage
        self._state = state

    async def through(self, session: Session, delays: Backoff) -> None:
        """Work on one connection until it breaks or we are stopped."""
        stream, durable = self._consumer.stream, self._consumer.durable
        await ensure_consumer(session, stream, self._consumer.config())
        async with Pull(session, stream, durable, batch=self._consumer.batch) as pull, _when(self._stop, pull.stop):
            delays.reset()
            while not self._stop.is_set():
                raw = await pull.fetch(_LOOK)
                self._state.waiting = raw[-1].metadata.num_pending if raw else 0
                batch = [Message.of(session, one) for one in raw]
                async with _while(self._keep(session, batch)):
                    await self._settle(batch)
        # For the other replicas, or for us when we are back.
        for one in pull.left:
            await Message.of(session, one).nak()

    async def _settle(self, batch: Sequence[Message]) -> None:
        if not batch:
            return
        try:
            rejected = list(await self._try(batch) or ())
        except _Stopped:
            for message in batch:
                await message.nak()
        except Poison as exc:
            await self._failed(batch, str(exc), hopeless=True)
        except Exception as exc:
            log.warning("batch failed", consumer=self._consumer.durable, size=len(batch), exc_info=exc)
            await self._failed(batch, f"{type(exc).__name__}: {exc}", hopeless=False)
        else:
            left_out = {id(message) for message, _ in rejected}
            for message in batch:
                if id(message) not in left_out:
                    await message.ack()
            self._state.handled += len(batch) - len(left_out)
            await self._park(rejected)

    async def _try(self, batch: Sequence[Message]) -> Iterable[Rejected] | None:
        delays = Backoff(0.5, 15)
        while True:
            if self._stop.is_set():
                raise _Stopped
            try:
                return await self._handle(list(batch))
            except self._outage as exc:
                log.warning("batch waits", consumer=self._consumer.durable, size=len(batch), reason=str(exc))
                await delays.wait(self._stop)

    async def _failed(self, batch: Sequence[Message], reason: str, *, hopeless: bool) -> None:
        if len(batch) > 1:
            for message in batch:
                await self._settle([message])
            return
        message = batch[0]
        if hopeless or message.deliveries >= self._consumer.tries:
            await self._park([(message, reason)])
        else:
            self._state.failed += 1
            await message.nak(min(2.0**message.deliveries, _LONGEST_NAK))

    async def _park(self, rejected: Sequence[Rejected]) -> None:
        if not rejected:
            return
        # A flood of bad messages is one line a batch.
        log.warning("messages parked", consumer=self._consumer.durable, size=len(rejected), reason=rejected[0][1])
        await asyncio.gather(*(self._park_one(message, reason) for message, reason in rejected))

    async def _park_one(self, message: Message, reason: str) -> None:
        try:
            await dlq.park(self._bus, message, reason)
        except StreamRefused as exc:
            log.error("cannot park", stream=message.stream, sequence=message.sequence, reason=str(exc))
            await message.nak(_UNPARKED)
        else:
            self._state.parked += 1

    async def _keep(self, session: Session, batch: Sequence[Message]) -> None:
        """Keep a batch ours while it takes long, and see how much waits behind it."""
        while batch:
            await asyncio.sleep(self._consumer.ack_wait / 3)
            for message in batch:
                await message.working()
            info = await session.api(f"CONSUMER.INFO.{self._consumer.stream}.{self._consumer.durable}")
            self._state.waiting = info["num_pending"]


@contextlib.asynccontextmanager
async def _while(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let ``work`` run beside the block; it ends with the block, or silently before it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _when(event: asyncio.Event, callback: Callable[[], None]) -> AsyncIterator[None]:
    """Call back when an event comes during the block."""

    async def wait() -> None:
        await event.wait()
        callback()

    async with _while(wait()):
        yield
