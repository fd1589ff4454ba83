"""Keeps the buckets of keys and tokens as PostgreSQL says, whatever happens to NATS (ARCHITECTURE, Identity)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

import structlog

from sluice_core.auth import KEYS, REVOKED, TOKENS
from sluice_core.bus import Backoff, Bus, BusError
from sluice_core.database import DatabaseAway
from sluice_registry.service.identity import Known

__all__ = ["Projection"]

log = structlog.get_logger(__name__)

# A refusal goes out before a grant.
ORDER = (REVOKED, KEYS, TOKENS)
# Seconds between two looks when nothing happens: another replica may have died between its commit and its message,
# and tokens expire.
PERIOD = 60.0
# Keys that are written side by side.
AT_ONCE = 200


class Projection:
    """Copies what is known of keys and tokens from the database to the bus.

    It follows the buckets itself. So it begins anew with each connection, notices a bucket that came back empty, and
    takes out what nobody of us put in.

    Parameters
    ----------
    bus
        With the right to write the buckets, which only the registry has.
    known
        Reads what should be there; asked regularly, also while NATS is away.
    published
        Told which public keys are there.
    period
        Seconds between two looks when nothing happens.
    """

    def __init__(
        self,
        bus: Bus,
        known: Callable[[], Awaitable[Known]],
        published: Callable[[Collection[str]], Awaitable[None]],
        *,
        period: float = PERIOD,
    ) -> None:
        self._bus = bus
        self._known = known
        self._published = published
        self._period = period
        self._found: dict[str, dict[str, bytes]] = {bucket: {} for bucket in ORDER}
        self._unread = set(ORDER)
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Say that what is known has changed; from any thread."""
        loop = self._loop
        if loop is not None:
            # A loop that has just closed needs no waking.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Keep the buckets right, for ever; a long-lived task. NATS and PostgreSQL may be away."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for bucket in ORDER:
                tasks.create_task(
                    self._bus.watch(bucket, partial(self._changed, bucket), partial(self._read, bucket)),
                    name=f"projection of {bucket}",
                )
            tasks.create_task(self._reconcile_always(), name="projection")

    def _changed(self, bucket: str, key: str, value: bytes | None) -> None:
        found = self._found[bucket]
        if found.get(key) != value:
            _note(found, key, value)
            self._wake.set()

    def _read(self, bucket: str) -> None:
        self._unread.discard(bucket)
        self._wake.set()

    async def _reconcile_always(self) -> None:
        delays = Backoff(longest=self._period)
        while True:
            self._wake.clear()
            try:
                await self._reconcile()
            except (BusError, DatabaseAway) as exc:
                log.warning("keys and tokens are not told to other services yet", reason=str(exc))
                await delays.wait(self._wake)
                continue
            delays.reset()
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which can lose a cancellation that comes together with the event.
                async with asyncio.timeout(self._period):
                    await self._wake.wait()

    async def _reconcile(self) -> None:
        # What is in a bucket was committed before. Looked at in this order, nothing that another replica adds
        # meanwhile seems to be too much.
        found = {bucket: dict(self._found[bucket]) for bucket in ORDER}
        known = await self._known()
        if self._unread or not self._bus.connected:
            return
        for bucket in ORDER:
            changes: list[tuple[str, bytes | None]] = [
                (key, value) for key, value in known[bucket].items() if found[bucket].get(key) != value
            ]
            changes += [(key, None) for key in found[bucket].keys() - known[bucket].keys()]
            for start in range(0, len(changes), AT_ONCE):
                if start and self._wake.is_set():
                    return  # a revocation does not wait until ten thousand imported tokens have gone out
                await self._write(bucket, changes[start : start + AT_ONCE])
        await self._published(known[KEYS])

    async def _write(self, bucket: str, changes: Sequence[tuple[str, bytes | None]]) -> None:
        outcomes = await asyncio.gather(*(self._set(bucket, *each) for each in changes), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _set(self, bucket: str, key: str, value: bytes | None) -> None:
        """Write one key; None deletes it."""
        found = self._found[bucket]
        before = found.get(key)
        # Noted before it comes back by the watch, so that it wakes nobody.
        _note(found, key, value)
        try:
            if value is None:
                await self._bus.delete(bucket, key)
            else:
                await self._bus.put(bucket, key, value)
        except BaseException:
            _note(found, key, before)
            raise


def _note(found: dict[str, bytes], key: str, value: bytes | None) -> None:
    if value is None:
        found.pop(key, None)
    else:
        found[key] = value
