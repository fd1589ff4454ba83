"""Where a request comes from: for limits and logs, never for who somebody is (decision 4)."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

__all__ = ["Networks", "client_address"]

# A chain of proxies is short; what is longer was made up.
_HOPS = 16

Networks = Sequence[IPv4Network | IPv6Network]


def client_address(scope: Mapping[str, Any], trusted: Networks = ()) -> str:
    """Return the address that a request comes from.

    Parameters
    ----------
    trusted
        Proxies whose ``X-Forwarded-For`` is believed (``SLUICE_TRUSTED_PROXIES``).

    Returns
    -------
    str
        The peer; behind trusted proxies the last address in the header that is none of theirs, since everything before
        it can be anybody's invention. Empty when the server does not know the peer.
    """
    client = scope.get("client")
    address = str(client[0]) if client else ""
    if not trusted or not _among(address, trusted):
        return address
    told = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    for hop in reversed(told.decode("latin-1").split(",")[-_HOPS:]):
        hop = hop.strip()
        if _parse(hop) is None:
            break
        address = hop
        if not _among(address, trusted):
            break
    return address


def _among(address: str, networks: Networks) -> bool:
    found = _parse(address)
    return found is not None and any(found.version == network.version and found in network for network in networks)


def _parse(text: str) -> Any:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
