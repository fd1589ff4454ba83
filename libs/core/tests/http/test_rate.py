"""One source cannot send more than its share, whatever it calls itself."""

from ipaddress import ip_network
from typing import Any

import pytest

from sluice_core.http.rate import SourceRate

PROXY = "10.0.0.1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def scope(peer: str, forwarded: str | None = None) -> dict[str, Any]:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    return {"client": (peer, 1), "headers": headers}


def admitted(rate: SourceRate, *scopes: dict[str, Any]) -> int:
    return sum(rate.wait(each) == 0 for each in scopes)


def test_a_source_may_send_ten_seconds_worth_at_once_and_then_keeps_to_the_rate() -> None:
    clock = Clock()
    rate = SourceRate(5.0, clock=clock)
    ada, bob = scope("192.0.2.1"), scope("192.0.2.2")
    assert admitted(rate, *[ada] * 70) == 50
    assert rate.wait(ada) == 1
    assert admitted(rate, *[bob] * 70) == 50
    clock.now += 2.0
    assert admitted(rate, *[ada] * 70) == 10
    clock.now += 3600.0
    assert admitted(rate, *[ada] * 70) == 50


def test_a_rate_below_one_admits_one_and_says_when_the_next_may_come() -> None:
    clock = Clock()
    rate = SourceRate(1 / 60, clock=clock)
    ada = scope("192.0.2.1")
    assert [rate.wait(ada), rate.wait(ada)] == [0, 60]
    clock.now += 59.0
    assert rate.wait(ada) == 1
    clock.now += 1.0
    assert rate.wait(ada) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("not:an:address", "not:an:other", False),
    ],
)
def test_addresses_of_one_network_are_one_source(one: str, other: str, same: bool) -> None:
    rate = SourceRate(0.1)
    assert rate.wait(scope(one)) == 0
    assert (rate.wait(scope(other)) > 0) is same


def test_a_forwarded_address_counts_behind_a_declared_proxy_only() -> None:
    forged = [scope(PROXY, f"192.0.2.{number}") for number in range(30)]
    assert admitted(SourceRate(1.0), *forged) == 10
    assert admitted(SourceRate(1.0, trusted=[ip_network(PROXY)]), *forged) == 30
    assert admitted(SourceRate(1.0, trusted=[ip_network(PROXY)]), *[scope("192.0.2.9", "192.0.2.1")] * 30) == 10


def test_the_sources_that_are_remembered_are_bounded() -> None:
    rate = SourceRate(0.1, kept=2)
    for number in (1, 2, 3):
        assert rate.wait(scope(f"192.0.2.{number}")) == 0
    assert len(rate._due) == 2
    assert rate.wait(scope("192.0.2.3")) > 0
    assert rate.wait(scope("192.0.2.1")) == 0
