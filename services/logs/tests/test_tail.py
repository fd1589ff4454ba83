"""``GET /api/logs/tail/``: who watches sees what is stored, whichever replica stored it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from starlette.testclient import TestClient

from sluice_core.bus.permissions import authorization
from sluice_core.testing import NatsServer, StartNats, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import Served, serving
from sluice_core.testing.tokens import Tokens
from sluice_logs import tail

from .records import URL, record

PASSWORD = "only-for-this-test"


class Watcher:
    """A client of the stream, in a thread of its own."""

    def __init__(self, served: Served, query: dict[str, Any]) -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = False
        self._connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)
        accept = {"Accept": "text/event-stream"}
        self._connection.request("GET", f"{URL}tail/?{urlencode(query)}", headers=accept)
        self._reply = self._connection.getresponse()
        assert self._reply.status == 200, self._reply.read()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        eventually(lambda: ("connected", {}) in self.events)

    @property
    def messages(self) -> list[str]:
        return [data["message"] for name, data in self.events if name == "log"]

    def close(self) -> None:
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._reply.close()
        self._connection.close()

    def _read(self) -> None:
        name = ""
        with suppress(OSError, http.client.HTTPException):
            while line := self._reply.readline():
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    self.events.append((name, json.loads(value)))
        self.ended = True


@pytest.fixture
def nats_server(start_nats: StartNats) -> NatsServer:
    return start_nats(authorization(dict.fromkeys(("registry", "logs"), PASSWORD)))


@pytest.fixture
def serve(make_app: AppMaker, nats_server: NatsServer) -> Iterator[Callable[[], Served]]:
    """Start replicas."""
    with ExitStack() as stack:

        def start() -> Served:
            app = make_app(nats_url=nats_server.url("logs", PASSWORD))
            served = stack.enter_context(serving(app))
            eventually(lambda: app.state.service.bus.connected)
            return served

        yield start


@contextmanager
def watching(served: Served, **query: Any) -> Iterator[Watcher]:
    made = Watcher(served, query)
    try:
        yield made
    finally:
        made.close()


def post(served: Served, *given: dict[str, Any]) -> list[dict[str, Any]]:
    replies = [requests.post(f"{served.url}{URL}", json=record(**each), timeout=10) for each in given]
    assert [reply.status_code for reply in replies] == [201] * len(given)
    return [reply.json() for reply in replies]


def saw(watcher: Watcher, messages: set[str]) -> bool:
    return messages <= set(watcher.messages)


def test_every_replica_shows_what_each_has_stored_as_the_list_has_it(serve: Callable[[], Served]) -> None:
    one, two = serve(), serve()
    with watching(one) as here, watching(two) as there:
        # Until the others know that somebody watches.
        eventually(
            lambda: (
                post(one, {"message": "ping"}) and post(two, {"message": "ping"}) and here.messages.count("ping") > 1
            )
        )
        eventually(lambda: "ping" in there.messages)
        odd = "tab\t back\\slash\nnew line ünï"
        rows = post(one, {"message": odd, "extra_data": {"a": [1, odd]}}) + post(
            two, {"message": "last", "extra_data": None}
        )
        for watcher in (here, there):
            eventually(partial(saw, watcher, {odd, "last"}))
            shown = [data for name, data in watcher.events if name == "log"]
            assert len({data["id"] for data in shown}) == len(shown)
            assert all(row in shown for row in rows)


def test_filters_are_those_of_the_list(serve: Callable[[], Served]) -> None:
    served = serve()
    wanted: list[dict[str, Any]] = [
        {"level__gte": "WARNING"},
        {"search": "lost -found"},
        {"execution_id": "e-1"},
        {"app_name": "other", "level": 20},
        {"end_time": "2000-01-01"},
        {"run_id": "7", "start_time": "2000-01-01"},
    ]
    with ExitStack() as stack:
        watchers = [stack.enter_context(watching(served, **query)) for query in wanted]
        everything = stack.enter_context(watching(served))
        post(
            served,
            {"message": "Lost link", "level": 30},
            {"message": "lost and found", "extra_data": {"execution_id": "e-1"}},
            {"message": "number", "extra_data": {"run_id": 7}},
            {"message": "fine", "app_name": "other", "extra_data": ["execution_id"]},
            {"message": "old", "timestamp": "1999-01-01"},
            {"message": "end"},
        )
        eventually(lambda: "end" in everything.messages)
        for query, watcher in zip(wanted, watchers, strict=True):
            listed = requests.get(f"{served.url}{URL}", params=query, timeout=10).json()
            assert sorted(watcher.messages) == sorted(each["message"] for each in listed) != []


def test_what_comes_by_nats_and_in_batches_is_shown_too_and_long_records_are_cut(serve: Callable[[], Served]) -> None:
    served = serve()
    with watching(served) as watcher:
        body = [record(message=str(number)) for number in range(300)] + [record(message="x" * 2_000_000)]
        requests.post(f"{served.url}{URL}", json=body, timeout=20)
        eventually(lambda: len(watcher.messages) == 301)
        assert watcher.messages[:300] == [str(number) for number in range(300)]
        assert len(watcher.messages[300]) == tail.BEGINNING


def test_while_nats_is_away_a_replica_shows_its_own(serve: Callable[[], Served], nats_server: NatsServer) -> None:
    served = serve()
    with watching(served) as watcher:
        nats_server.kill()
        eventually(lambda: post(served, {"message": "alone"}) and "alone" in watcher.messages)


def test_the_end_of_the_process_ends_the_streams(make_app: AppMaker, nats_server: NatsServer) -> None:
    with ExitStack() as stack:
        with serving(make_app(nats_url=nats_server.url("logs", PASSWORD))) as served:
            watcher = stack.enter_context(watching(served))
            began = time.monotonic()
        assert time.monotonic() - began < 5
        eventually(lambda: watcher.ended)


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told(
    serve: Callable[[], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_logs.handlers.tail.LENGTH", 5)
    served = serve()
    with watching(served) as watcher:
        body = [record(message=str(number)) for number in range(2000)]
        assert requests.post(f"{served.url}{URL}", json=body, timeout=20).json()["accepted"] == 2000
        eventually(lambda: "1999" in watcher.messages)
        dropped = sum(data["count"] for name, data in watcher.events if name == "dropped")
        assert dropped > 0
        assert dropped + len(watcher.messages) == 2000


def test_a_bad_filter_is_a_problem_and_too_many_streams_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = client.get(f"{URL}tail/?level=x")
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    monkeypatch.setattr("sluice_core.http.sse.Readers.has_room", False)
    assert client.get(f"{URL}tail/", headers={"Accept": "text/event-stream"}).status_code == 503


def test_the_stream_closes_with_the_reads(start: Any, tokens: Tokens) -> None:
    closed = start(shared={"anonymous_read": False})
    assert closed.get(f"{URL}tail/").status_code == 403
    assert closed.get(f"{URL}tail/?level=x", headers=tokens.header()).status_code == 400
