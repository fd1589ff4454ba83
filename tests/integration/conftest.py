"""Two platforms for all tests of a session: one as it comes, one as a campus would run it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.platforms import Client, Up

Numbers = dict[str, list[dict[str, Any]]]

PREFIX = "/swf-monitor"
COUNTERS = ("next-run-number", "next-agent-id", "next-workflow-execution-id")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Numbers]]:
    """A platform, and the answers of its counters before anybody else asked them."""
    # Without an OAuth server, the contract has a 503 for who asks for it.
    with Up(tmp_path_factory.mktemp("platform") / "data", AUTH0_DOMAIN="oauth.example") as up:
        client = up.client()
        yield up, {name: [client.post(f"/api/state/{name}/").json() for _ in range(2)] for name in COUNTERS}


@pytest.fixture(scope="session")
def platform(fresh: tuple[Up, Numbers]) -> Up:
    """With the settings that it comes with."""
    return fresh[0]


@pytest.fixture(scope="session")
def first_numbers(fresh: tuple[Up, Numbers]) -> Numbers:
    """The first two answers of each counter."""
    return fresh[1]


@pytest.fixture(scope="session")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Behind a prefix, in its own time zone, nothing readable without a token."""
    data = tmp_path_factory.mktemp("campus") / "data"
    zone = "America/New_York"
    with Up(data, SLUICE_BASE_PATH=PREFIX, SLUICE_ANONYMOUS_READ="false", SLUICE_TIMEZONE=zone) as up:
        yield up


@pytest.fixture
def client(platform: Up) -> Iterator[Client]:
    """With the admin token."""
    client = platform.client()
    yield client
    client.close()


@pytest.fixture
def stranger(platform: Up) -> Iterator[Client]:
    """Without a token."""
    client = platform.client(anonymous=True)
    yield client
    client.close()
