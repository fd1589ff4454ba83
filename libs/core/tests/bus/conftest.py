"""Buses on a nats-server of the test's own."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest

from sluice_core.bus import Bucket, Bus, Stream
from sluice_core.testing import NatsServer


class OpenBus(Protocol):
    """The fixture `open_bus`."""

    async def __call__(self, url: str = "", *, keeps: Sequence[Stream | Bucket] = ()) -> Bus:
        """Open a bus, by default on `nats_server`, and wait until it is connected."""
        ...


@pytest.fixture
async def open_bus(nats_server: NatsServer) -> AsyncIterator[OpenBus]:
    """Open buses that are closed with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(url: str = "", *, keeps: Sequence[Stream | Bucket] = ()) -> Bus:
            bus = Bus(url or nats_server.url(), name="test", keeps=keeps)
            await bus.open()
            stack.push_async_callback(bus.close)
            await bus.wait_connected(10)
            return bus

        yield make
