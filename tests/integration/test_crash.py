"""1,000 heartbeats and 1,000 creates amid a crash and a stop: nothing answered is lost, each change is one event."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sluice_core.testing import eventually
from tests.integration.platforms import Up
from tests.integration.work import Work, assert_each_change_is_one_event


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash") / "data"


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    with Up(data) as up:
        yield up


def test_nothing_answered_is_lost_by_kill_9_and_each_change_is_one_event(up: Up) -> None:
    with Work(up, "killed") as work:
        assert work.total == 2000
        work.reach(0.3)
        up.kill()
        # They die with their parent, by themselves.
        eventually(lambda: not up.children(), 10)
        assert work.answered < work.total
        up.start()
        work.check()
        work.there.set()
        work.reach(1)
        work.check()
    assert_each_change_is_one_event(up, work)


def test_nothing_answered_is_lost_by_sigterm_which_ends_it_in_less_than_5_seconds(up: Up) -> None:
    address = urlsplit(up.http)
    with Work(up, "stopped") as work:
        work.reach(0.3)
        # A client that does not finish what it began must not hold it up.
        with socket.create_connection((address.hostname or "", address.port or 0)) as half:
            half.sendall(b"POST /api/logs/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            took = up.stop()
        print(f"SIGTERM under load: {took:.2f} s")
        assert took < 5
        assert not up.children()
        assert work.answered < work.total
        up.start()
        work.check()
        work.there.set()
        work.reach(1)
        work.check()
    assert_each_change_is_one_event(up, work)
