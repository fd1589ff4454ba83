"""A task that only one process at a time does, wherever the processes are.

The lease is a key of the bucket ``leases`` that expires: its holder renews it, and who waits takes it once it is gone.
No clocks are compared. Two holders for a moment, after a cut of the network, do no harm to what is built on it:
messages are told apart by their ids.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from sluice_core.bus import LEASES, Bus, BusError

__all__ = ["Lease"]

log = structlog.get_logger(__name__)


class Lease:
    """The right to do one task.

    Parameters
    ----------
    bus
        Has the bucket.
    key
        Names the task; a token.
    holder
        Names this process, for people.
    ttl
        Seconds after which a holder that died is replaced.

    Attributes
    ----------
    held
        Whether this process has it.
    """

    def __init__(self, bus: Bus, key: str, holder: str, *, ttl: int = 10) -> None:
        self._bus = bus
        self._key = key
        self._holder = holder.encode()
        self._ttl = ttl
        self._revision = 0
        self.held = False

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[asyncio.Event]:
        """Wait for the lease, for as long as it takes, and have it during the block.

        Yields
        ------
        asyncio.Event
            Set when the lease is lost: the task must end.
        """
        await self._acquire()
        lost = asyncio.Event()
        keeping = asyncio.create_task(self._keep(lost), name=f"lease of {self._key}")
        self.held = True
        log.info("lease taken", key=self._key)
        try:
            yield lost
        finally:
            self.held = False
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            if not lost.is_set():
                await self._release()

    async def _acquire(self) -> None:
        waiting = False
        while True:
            try:
                self._revision = await self._put(0, self._ttl)
            except BusError as exc:
                if not waiting:
                    log.info("waiting for a lease", key=self._key, reason=str(exc))
                waiting = True
                await asyncio.sleep(self._ttl / 5)
            else:
                return

    async def _keep(self, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._ttl
        while loop.time() < until:
            await asyncio.sleep(self._ttl / 5)
            asked = loop.time()
            try:
                self._revision = await self._put(self._revision, self._ttl)
            except BusError as exc:
                # NATS may be away for everybody, and nobody else has the lease before it has expired.
                log.warning("lease is not renewed", key=self._key, reason=str(exc))
            else:
                until = asked + self._ttl
        lost.set()

    async def _release(self) -> None:
        # Not deleted: the server would keep a note of that, and the key would never be absent again.
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(1):
                await self._put(self._revision, 1)

    async def _put(self, revision: int, ttl: int) -> int:
        return await self._bus.put(LEASES.name, self._key, self._holder, revision=revision, ttl=ttl)
