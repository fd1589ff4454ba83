"""How often one source may send something (decision 3)."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from sluice_core.http.source import Networks, client_address

__all__ = ["SourceRate"]

KEPT = 10_000
# What a source has not used of so many seconds it may send at once.
SAVED = 10.0
# A request in 12 days.
SLOWEST = 1e-6
# Of the clock's numbers, in seconds.
ROUNDING = 1e-6
# The network of one customer: whoever has one address of it has all of them.
PREFIX = 64


class SourceRate:
    """A token bucket for each source, in this process: replicas multiply what is allowed.

    Parameters
    ----------
    per_second
        Requests; a source that was silent may send as many at once as in `SAVED` seconds.
    trusted
        Proxies that tell where a request comes from.
    kept
        Sources that are remembered; the one that was silent longest is forgotten first, so nobody can fill the memory.
    """

    def __init__(
        self,
        per_second: float,
        *,
        trusted: Networks = (),
        kept: int = KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._apart = 1 / max(per_second, SLOWEST)
        self._ahead = max(SAVED, self._apart) - self._apart + ROUNDING
        self._trusted = trusted
        self._kept = kept
        self._clock = clock
        # Source -> when all that it has sent was allowed, had it kept to the rate.
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait(self, scope: Mapping[str, Any]) -> int:
        """Count the request of this ASGI scope; return 0, or the seconds by which it is too early, uncounted."""
        source, now = _network(client_address(scope, self._trusted)), self._clock()
        due = max(now, self._due.get(source, now))
        if due - now > self._ahead:
            return math.ceil(due - now - self._ahead)
        self._due[source] = due + self._apart
        self._due.move_to_end(source)
        if len(self._due) > self._kept:
            self._due.popitem(last=False)
        return 0


def _network(address: str) -> str:
    """Return whom an address belongs to."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found), PREFIX), strict=False))
