"""How agents ask, and what they do about a broker that is not there (swf-clients.md 4.1 and 4)."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sluice_simulator import api as room
from sluice_simulator import bus
from sluice_simulator.api import Api
from sluice_simulator.bus import Address, BusConnection
from sluice_simulator.errors import ApiError, BusAway


class Platform:
    """Answers each request with the next status of a list."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.asked.append((self.command, self.path, self.headers["authorization"]))
                body = b'{"run_id": 1}'
                self.send_response(outer.statuses.pop(0))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    thread = threading.Thread(target=platform.server.serve_forever, name="platform")
    thread.start()
    yield platform
    platform.server.shutdown()
    thread.join()
    platform.server.server_close()


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def agent(platform: Platform, stopping: threading.Event) -> Iterator[Api]:
    api = Api(platform.url, "secret", stopping)
    yield api
    api.close()


def test_what_may_pass_is_tried_again_and_a_refusal_is_not(
    platform: Platform, agent: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert room.DELAYS == (2, 5, 10, 20, 40, 60)
    monkeypatch.setattr(room, "DELAYS", (0,) * 6)
    platform.statuses = [503, 502, 504, 500, 404, 201]
    assert agent.post("/runs/", {"run_number": 1}) == {"run_id": 1}
    assert platform.asked == [("POST", "/api/runs/", "Token secret")] * 6
    assert agent.retries == 5
    for status in (301, 400, 403):
        platform.statuses = [status]
        with pytest.raises(ApiError, match=f"POST /runs/: {status}") as refused:
            agent.post("/runs/")
        assert refused.value.status == status
    platform.statuses = [503] * 7
    with pytest.raises(ApiError, match="503"):
        agent.post("/runs/")
    assert platform.statuses == []


def test_who_shall_end_waits_for_nobody(platform: Platform, agent: Api, stopping: threading.Event) -> None:
    stopping.set()
    platform.statuses = [503]
    with pytest.raises(ApiError, match="503"):
        agent.post("/runs/")


def test_a_broker_that_is_not_there_is_said_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "TRIES", 2)
    monkeypatch.setattr(bus, "PAUSE", 0)
    # Nothing listens on port 1.
    connection = BusConnection(Address("127.0.0.1", 1, password="hidden"), "me", (), namespace="n")
    with pytest.raises(BusAway, match=r"127\.0\.0\.1:1: ") as away:
        connection.send("/topic/x", {})
    assert "hidden" not in str(away.value)
