"""Wrong passwords cost time: the more of them, the more."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sluice_core.auth.identity import Throttled

__all__ = ["Limit", "Tries"]

KEPT = 10_000
FORGOTTEN = 900.0


@dataclass(frozen=True)
class Limit:
    """How many failures are free, and how long the delay after the others grows, in seconds."""

    free: int
    longest: float


# A user who mistypes notices nothing. Whoever keeps a user busy with wrong passwords keeps him out for a minute each.
USER = Limit(5, 60.0)
# Many people may come from one address.
SOURCE = Limit(30, 300.0)


@dataclass
class _Count:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class _Delays:
    """Delays by key; the least recently used key is forgotten first, so nobody can fill the memory."""

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def wait(self, key: str) -> float:
        count = self._counts.get(key)
        return 0.0 if count is None else count.until - self._clock()

    def failed(self, key: str) -> None:
        now = self._clock()
        count = self._counts.setdefault(key, _Count())
        self._counts.move_to_end(key)
        if now - count.last > FORGOTTEN:
            count.failures = 0
        count.failures += 1
        count.last = now
        beyond = count.failures - self._limit.free
        count.until = now + min(self._limit.longest, 2.0 ** min(beyond - 1, 30)) if beyond > 0 else now
        if len(self._counts) > KEPT:
            self._counts.popitem(last=False)

    def forgive(self, key: str, failures: int | None = None) -> None:
        count = self._counts.get(key)
        if count is None:
            return
        count.failures = 0 if failures is None else max(0, count.failures - failures)
        if count.failures <= self._limit.free:
            count.until = 0.0


class Tries:
    """Delays passwords by user and by source; in this process, so replicas multiply what is free.

    A try counts as a failure from its beginning: what begins at once must not be free at once.
    """

    def __init__(
        self, *, user: Limit = USER, source: Limit = SOURCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._users = _Delays(user, clock)
        self._sources = _Delays(source, clock)

    def begin(self, username: str, source: str) -> None:
        """Count a try, whether there is such a user or not.

        Raises
        ------
        Throttled
            It comes too soon, and is not counted.
        """
        wait = max(self._users.wait(username), self._sources.wait(source))
        if wait > 0:
            raise Throttled(wait)
        self._users.failed(username)
        self._sources.failed(source)

    def succeeded(self, username: str, source: str) -> None:
        """Take a try back that was right.

        The user begins anew; the source does not, or an account of one's own would be a way to try those of others.
        """
        self._users.forgive(username)
        self._sources.forgive(source, 1)

    def undecided(self, username: str, source: str) -> None:
        """Take a try back that was not looked at."""
        self._users.forgive(username, 1)
        self._sources.forgive(source, 1)
