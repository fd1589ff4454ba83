"""Supervised tasks: a dead one is noticed at once, and stopping ends them all in time and in order."""

import asyncio
from functools import partial

import pytest

from sluice_core.supervise import Supervisor


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_dies_is_named_with_its_reason() -> None:
    async def broken() -> None:
        raise ConnectionError("nats://u:hunter2@bus is gone")

    supervisor = Supervisor()
    supervisor.spawn("heartbeats", broken)
    await asyncio.wait_for(supervisor.died.wait(), 2)
    ok, detail = supervisor.check()
    assert not ok
    assert detail == "heartbeats: ConnectionError('nats://u:***@bus is gone')"


async def test_a_task_that_just_ends_is_a_dead_one_too() -> None:
    async def returns() -> None:
        return

    supervisor = Supervisor()
    supervisor.spawn("relay", returns)
    await asyncio.wait_for(supervisor.died.wait(), 2)
    assert supervisor.reason == "relay: ended"


async def test_running_tasks_are_healthy() -> None:
    supervisor = Supervisor()
    supervisor.spawn("watch", forever)
    assert supervisor.check() == (True, "")
    await supervisor.stop()
    assert supervisor.check() == (True, "")


async def test_tasks_end_youngest_first() -> None:
    ended: list[str] = []
    supervisor = Supervisor()

    async def task(name: str) -> None:
        try:
            await forever()
        finally:
            ended.append(name)

    for name in ("bus", "relay", "consumer"):
        supervisor.spawn(name, partial(task, name))
    await asyncio.sleep(0)
    await supervisor.stop()
    assert ended == ["consumer", "relay", "bus"]


async def test_a_graceful_task_finishes_what_it_has_in_hand() -> None:
    supervisor = Supervisor()
    acknowledged = False

    async def consumer() -> None:
        nonlocal acknowledged
        await supervisor.stopping.wait()
        await asyncio.sleep(0)
        acknowledged = True

    supervisor.spawn("consumer", consumer, graceful=True)
    await asyncio.sleep(0)
    await supervisor.stop()
    assert acknowledged
    assert not supervisor.died.is_set()


async def test_stopping_takes_no_longer_than_its_deadline() -> None:
    stubborn_ends = asyncio.Event()

    async def stubborn() -> None:
        while not stubborn_ends.is_set():
            try:
                await stubborn_ends.wait()
            except asyncio.CancelledError:
                continue

    supervisor = Supervisor()
    supervisor.spawn("stubborn", stubborn, graceful=True)
    await asyncio.sleep(0)
    await asyncio.wait_for(supervisor.stop(deadline=0.2), 2)
    stubborn_ends.set()


async def test_nothing_is_started_while_stopping() -> None:
    supervisor = Supervisor()
    await supervisor.stop()
    with pytest.raises(RuntimeError, match="stopping"):
        supervisor.spawn("late", forever)
