"""Replay streams that fill up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from sluice_core.bus import Bus, Consumer, Message, Stream, StreamRefused, consume, keep_room
from sluice_core.testing import eventually_async

from .conftest import OpenBus

REPLAY = Stream(name="REPLAY", subjects=("replay.>",), max_bytes=100_000, max_age=3600.0)
READER = Consumer(stream="REPLAY", durable="reader", batch=10)


@contextlib.asynccontextmanager
async def trimming(bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_room(bus, REPLAY, every=0.02))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def taken(bus: Bus, number: int) -> bool:
    try:
        await bus.publish_stored("replay.a", bytes(900), msg_id=str(number))
    except StreamRefused:
        return False
    return True


async def fill(bus: Bus, *numbers: int) -> None:
    for number in numbers:
        await eventually_async(partial(taken, bus, number))


async def state(bus: Bus) -> tuple[int, int]:
    """First sequence and number of messages."""
    found = (await (await bus.session(1)).api("STREAM.INFO.REPLAY"))["state"]
    return found["first_seq"], found["messages"]


async def test_a_stream_that_fills_up_drops_its_oldest_and_keeps_the_rest_for_replay(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[REPLAY])
    await fill(bus, *range(75))
    async with trimming(bus):
        await fill(bus, *range(75, 400))
        first, messages = await state(bus)
    assert first > 1
    assert messages > 50
    assert first + messages == 401


async def test_what_a_durable_consumer_has_not_acknowledged_stays(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[REPLAY])
    await fill(bus, *range(90))
    stop, go_on = asyncio.Event(), asyncio.Event()
    handled = 0

    async def handle(batch: list[Message]) -> None:
        nonlocal handled
        if handled == 10:
            await go_on.wait()
        handled += len(batch)

    reading = asyncio.create_task(consume(bus, READER, handle, stop))
    await eventually_async(lambda: handled == 10)
    async with trimming(bus):
        await eventually_async(lambda: trimmed_to(bus, 11))
        go_on.set()
        await fill(bus, *range(90, 100))
        await eventually_async(lambda: handled == 100)
        await eventually_async(lambda: roomy(bus))
    stop.set()
    await reading


async def trimmed_to(bus: Bus, sequence: int) -> bool:
    return (await state(bus))[0] == sequence


async def roomy(bus: Bus) -> bool:
    return (await state(bus))[1] < 70
