"""Consumers: batches, redelivery, parking, stopping."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sluice_core import dlq
from sluice_core.bus import (
    DLQ,
    HEARTBEATS,
    Bus,
    Consumer,
    ConsumerState,
    Handle,
    Message,
    Poison,
    Rejected,
    Stream,
    StreamDiffers,
    consume,
)
from sluice_core.testing import NatsServer, eventually_async

from .conftest import OpenBus

WORK = Stream(name="WORK", subjects=("work.>",), max_bytes=50_000_000, max_age=3600.0, retention="workqueue")
READER = Consumer(stream="WORK", durable="reader", batch=100, ack_wait=2.0, tries=2)
COUNTER = itertools.count()


class Away(Exception):
    """Stands for a database that is away."""


@contextlib.asynccontextmanager
async def consuming(
    bus: Bus, handle: Handle, consumer: Consumer = READER, outage: tuple[type[Exception], ...] = ()
) -> AsyncIterator[None]:
    """Run a consumer during the block, and stop it cleanly."""
    stop = asyncio.Event()
    task = asyncio.create_task(consume(bus, consumer, handle, stop, outage=outage))
    try:
        yield
    finally:
        stop.set()
        await task


async def send(bus: Bus, *numbers: int) -> None:
    await asyncio.gather(*(bus.publish_stored(f"work.{n}", b"%d" % n, msg_id=str(n)) for n in numbers))


async def left(bus: Bus, stream: str = "WORK") -> int:
    info = await (await bus.session(1)).api(f"STREAM.INFO.{stream}")
    messages: int = info["state"]["messages"]
    return messages


def state(bus: Bus) -> ConsumerState:
    return bus.consumers.get("reader", ConsumerState())


async def all_gone(bus: Bus) -> bool:
    """Whether the queue is empty: acknowledgements are on their way for a moment."""
    return await left(bus) == 0


async def parked(bus: Bus) -> list[Message]:
    """Read all dead letters."""
    found: list[Message] = []

    async def handle(batch: list[Message]) -> None:
        found.extend(batch)

    expected = await left(bus, "DLQ")
    async with consuming(bus, handle, Consumer(stream="DLQ", durable=f"look-{next(COUNTER)}")):
        await eventually_async(lambda: len(found) == expected)
    return found


async def test_messages_come_in_batches_and_leave_the_queue_when_handled(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    await send(bus, *range(250))
    batches: list[list[int]] = []

    async def handle(batch: list[Message]) -> None:
        batches.append([int(message.data) for message in batch])

    async with consuming(bus, handle):
        await eventually_async(lambda: len(batches) == 3)
        await send(bus, 250)
        await eventually_async(lambda: len(batches) == 4)
    assert [len(batch) for batch in batches] == [100, 100, 50, 1]
    assert sorted(number for batch in batches for number in batch) == list(range(251))
    await eventually_async(lambda: all_gone(bus))
    assert state(bus).handled == 251


async def test_a_lone_message_does_not_wait_for_a_batch(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    arrived = asyncio.Event()

    async def handle(batch: list[Message]) -> None:
        arrived.set()

    async with consuming(bus, handle):
        await eventually_async(lambda: "reader" in bus.consumers)
        for number in range(3):
            arrived.clear()
            started = time.monotonic()
            await send(bus, number)
            await arrived.wait()
            assert time.monotonic() - started < 0.5


async def test_what_a_dead_process_had_in_hand_comes_to_another(open_bus: OpenBus) -> None:
    first, second = await open_bus(keeps=[WORK]), await open_bus()
    await send(first, 1, 2)
    begun = asyncio.Event()
    got: list[tuple[int, int]] = []

    async def hang(batch: list[Message]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def handle(batch: list[Message]) -> None:
        got.extend((int(message.data), message.deliveries) for message in batch)

    dying = asyncio.create_task(consume(first, READER, hang, asyncio.Event()))
    await begun.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    async with consuming(second, handle):
        await eventually_async(lambda: sorted(got) == [(1, 2), (2, 2)])


async def test_one_bad_message_is_tried_again_then_parked_and_blocks_no_other(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK, DLQ])
    await send(bus, *range(20))
    handled: list[int] = []
    tried: list[float] = []

    async def handle(batch: list[Message]) -> None:
        numbers = [int(message.data) for message in batch]
        if 7 in numbers:
            if len(numbers) == 1:
                tried.append(time.monotonic())
            raise ZeroDivisionError("seven\nis bad")
        handled.extend(numbers)

    async with consuming(bus, handle):
        await eventually_async(lambda: len(handled) == 19)
        await send(bus, 20)
        await eventually_async(lambda: 20 in handled, timeout=1)
        await eventually_async(lambda: state(bus).parked == 1)
    assert len(tried) == 2
    assert tried[1] - tried[0] > 1.5
    (letter,) = await parked(bus)
    assert (letter.subject, letter.data) == ("dlq.work.7", b"7")
    assert letter.headers[dlq.REASON] == "ZeroDivisionError: seven is bad"
    assert letter.headers[dlq.SUBJECT] == "work.7"
    assert (letter.headers[dlq.STREAM], letter.headers[dlq.SEQUENCE]) == ("WORK", "8")
    assert letter.headers["Nats-Msg-Id"].startswith("WORK-8-")
    await eventually_async(lambda: all_gone(bus))


@pytest.mark.parametrize("raising", [True, False])
async def test_what_no_retry_can_mend_is_parked_at_once(open_bus: OpenBus, raising: bool) -> None:
    bus = await open_bus(keeps=[WORK, DLQ])
    await send(bus, *range(10))
    handled: list[int] = []

    async def raises(batch: list[Message]) -> None:
        if any(int(message.data) % 2 for message in batch):
            raise Poison("odd")
        handled.extend(int(message.data) for message in batch)

    async def returns(batch: list[Message]) -> list[Rejected]:
        handled.extend(int(message.data) for message in batch if not int(message.data) % 2)
        return [(message, "odd") for message in batch if int(message.data) % 2]

    async with consuming(bus, raises if raising else returns):
        await eventually_async(lambda: state(bus).parked == 5)
    assert sorted(handled) == [0, 2, 4, 6, 8]
    assert {letter.headers[dlq.REASON] for letter in await parked(bus)} == {"odd"}
    await eventually_async(lambda: all_gone(bus))
    assert state(bus).failed == 0


async def test_a_message_that_cannot_be_parked_is_not_lost(open_bus: OpenBus) -> None:
    tiny = replace(DLQ, max_bytes=600, discard="new")
    bus = await open_bus(keeps=[WORK, tiny])
    await send(bus, *range(3))

    async def handle(batch: list[Message]) -> list[Rejected]:
        return [(message, "bad") for message in batch]

    async with consuming(bus, handle):
        await eventually_async(lambda: state(bus).parked >= 1)
    assert (await left(bus, "DLQ"), await left(bus)) in ((1, 2), (2, 1))


async def test_an_outage_keeps_the_batch_and_is_no_try(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK, DLQ])
    await send(bus, *range(5))
    attempts: list[list[int]] = []
    handled: list[tuple[int, int]] = []
    back = asyncio.Event()

    async def handle(batch: list[Message]) -> None:
        attempts.append([int(message.data) for message in batch])
        if not back.is_set():
            raise Away("the database is away")
        handled.extend((int(message.data), message.deliveries) for message in batch)

    async with consuming(bus, handle, replace(READER, ack_wait=1.0), outage=(Away,)):
        await eventually_async(lambda: len(attempts) >= 4)  # longer than ack_wait, more often than tries
        back.set()
        await eventually_async(lambda: handled)
    assert handled == [(n, 1) for n in range(5)]
    await eventually_async(lambda: all_gone(bus))
    assert state(bus).failed == 0


async def test_a_slow_handler_gets_nothing_twice(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    await send(bus, 1)
    calls: list[float] = []

    async def handle(batch: list[Message]) -> None:
        calls.append(time.monotonic())
        await eventually_async(lambda: time.monotonic() - calls[0] > 2)

    async with consuming(bus, handle, replace(READER, ack_wait=0.6)):
        await eventually_async(lambda: all_gone(bus))
    assert len(calls) == 1


async def test_stopping_is_quick_and_what_is_in_hand_is_finished(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    other = await open_bus()
    begun, go_on, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    handled: list[int] = []

    async def handle(batch: list[Message]) -> None:
        begun.set()
        await go_on.wait()
        handled.extend(int(message.data) for message in batch)

    await send(bus, *range(5))
    task = asyncio.create_task(consume(bus, READER, handle, stop))
    await begun.wait()
    await send(bus, 100, 101)  # they arrive while the first batch is being handled
    stop.set()
    go_on.set()
    started = time.monotonic()
    await task
    await bus.close()
    # A drain with an open pull takes 30 s.
    assert time.monotonic() - started < 5
    assert handled == list(range(5))
    await eventually_async(lambda: two_left(other))
    async with consuming(other, handle):
        await eventually_async(lambda: sorted(handled) == [0, 1, 2, 3, 4, 100, 101])


async def two_left(bus: Bus) -> bool:
    return await left(bus) == 2


async def test_an_idle_consumer_stops_at_once(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])

    async def handle(batch: list[Message]) -> None:
        raise AssertionError

    async with consuming(bus, handle):
        await eventually_async(lambda: consumers(bus))
        started = time.monotonic()
    await bus.close()
    assert time.monotonic() - started < 0.5


async def consumers(bus: Bus) -> int:
    info = await (await bus.session(1)).api("STREAM.INFO.WORK")
    number: int = info["state"]["consumer_count"]
    return number


async def test_a_consumer_stops_while_the_server_is_away(nats_server: NatsServer, open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])

    async def handle(batch: list[Message]) -> None:
        raise AssertionError

    async with consuming(bus, handle):
        nats_server.kill()
        await eventually_async(lambda: not bus.connected)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5


async def test_it_goes_on_after_the_server_was_killed(nats_server: NatsServer, open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    got: set[int] = set()

    async def handle(batch: list[Message]) -> None:
        got.update(int(message.data) for message in batch)

    async with consuming(bus, handle):
        await send(bus, *range(100))
        await eventually_async(lambda: len(got) == 100)
        nats_server.kill()
        nats_server.start()
        await eventually_async(lambda: bus.connections == 2)
        await send(bus, *range(100, 200))
        await eventually_async(lambda: len(got) == 200)


async def test_heartbeats_flow_again_after_a_restart_has_lost_their_stream(
    nats_server: NatsServer, open_bus: OpenBus
) -> None:
    bus = await open_bus(keeps=[HEARTBEATS])
    got: list[str] = []

    async def handle(batch: list[Message]) -> None:
        got.extend(message.subject for message in batch)

    async with consuming(bus, handle, Consumer(stream="HEARTBEATS", durable="registry")):
        await bus.publish("agents.in.heartbeat._.a", b"{}")
        await eventually_async(lambda: got == ["agents.in.heartbeat._.a"])
        nats_server.kill()
        nats_server.start()
        await eventually_async(lambda: bus.connections == 2)
        await bus.publish("agents.in.heartbeat._.b", b"{}")
        await eventually_async(lambda: got[1:] == ["agents.in.heartbeat._.b"])


async def test_it_waits_for_a_stream_that_is_not_there_yet(open_bus: OpenBus) -> None:
    bus = await open_bus()
    got: list[bytes] = []

    async def handle(batch: list[Message]) -> None:
        got.extend(message.data for message in batch)

    async with consuming(bus, handle):
        await bus.ensure([WORK])
        await send(bus, 1)
        await eventually_async(lambda: got == [b"1"])


async def test_a_consumer_that_cannot_become_what_is_declared_ends_the_task(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    session = await bus.session()
    push = {"name": "reader", "durable_name": "reader", "deliver_subject": "somewhere", "ack_policy": "explicit"}
    await session.api("CONSUMER.CREATE.WORK.reader", {"stream_name": "WORK", "config": push})

    async def handle(batch: list[Message]) -> None:
        raise AssertionError

    with pytest.raises(StreamDiffers, match="consumer reader of WORK"):
        await consume(bus, READER, handle, asyncio.Event())


async def test_the_lag_is_seen_while_a_batch_waits(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    await send(bus, *range(150))
    go_on = asyncio.Event()

    async def handle(batch: list[Message]) -> None:
        await go_on.wait()

    async with consuming(bus, handle, replace(READER, ack_wait=0.6)):
        await eventually_async(lambda: state(bus).waiting == 50)
        await send(bus, *range(150, 170))
        await eventually_async(lambda: state(bus).waiting == 70)
        go_on.set()
        await eventually_async(lambda: state(bus).handled == 170)
        assert state(bus).waiting == 0


async def test_hostile_headers_and_sizes_can_be_parked(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK, DLQ])
    hostile = {
        "Status": "503",
        "Description": "Consumer Deleted",
        "Nats-Pending-Messages": "1000",
        "Nats-Rollup": "all",
        "nats-expected-stream": "OTHER",
        dlq.REASON: "forged",
        "plain": "kept é",
        "x" * 200: "name too long",
        "large": "y" * 10_000,
        "after": "z",
    }
    size = bus.max_payload - 11_000
    session = await bus.session()
    for subject, headers, data in (
        ("work.hostile", {key: value for key, value in hostile.items() if not key.lower().startswith("nats-r")}, b""),
        ("work." + "a" * 3800, {}, b""),
        ("work.large", {}, bytes(size)),
    ):
        await session.publish(subject, data, headers=headers)

    async def handle(batch: list[Message]) -> list[Rejected]:
        return [(message, "bad " * 1000) for message in batch]

    async with consuming(bus, handle):
        await eventually_async(lambda: state(bus).parked == 3)
    letters = {letter.subject[:12]: letter for letter in await parked(bus)}
    kept = letters["dlq.work.hos"].headers
    assert {key: value for key, value in kept.items() if not key.startswith(("Sluice-", "Nats-"))} == {
        "Status": "503",
        "Description": "Consumer Deleted",
        "plain": "kept é",
    }
    assert len(kept[dlq.REASON]) <= 500
    assert letters["dlq.work.aaa"].headers[dlq.SUBJECT] == "work." + "a" * 3800
    large = letters["dlq.work.lar"]
    assert large.headers[dlq.TRUNCATED] == str(size)
    assert 0 < len(large.data) < size
