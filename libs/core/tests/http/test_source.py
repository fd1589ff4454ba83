"""Where a request comes from: the peer, and what proxies say only where they are trusted."""

from ipaddress import ip_network

import pytest

from sluice_core.http import client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def source(peer: str | None, *forwarded: str, trusted: bool = True) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"client": peer and (peer, 1234), "headers": [(b"host", b"x"), *headers]}
    return client_address(scope, TRUSTED if trusted else ())


def test_without_trusted_proxies_it_is_the_peer() -> None:
    assert source("10.0.0.1", "1.2.3.4", trusted=False) == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("9.9.9.9", ["1.2.3.4"], "9.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        # What a client writes comes before what the first proxy adds.
        ("10.0.0.1", ["8.8.8.8, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["8.8.8.8, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["8.8.8.8", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("somewhere", ["1.2.3.4"], "somewhere"),
        (None, ["1.2.3.4"], ""),
    ],
)
def test_behind_trusted_proxies_it_is_what_the_last_of_them_saw(
    peer: str | None, forwarded: list[str], found: str
) -> None:
    assert source(peer, *forwarded) == found


def test_no_header_is_too_long() -> None:
    assert source("10.0.0.1", ",".join(["10.0.0.2"] * 100_000)) == "10.0.0.2"
