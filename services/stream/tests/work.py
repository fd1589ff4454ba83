"""The stream service with a real bus, and people at a broker."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import requests
import stomp  # type: ignore[import-untyped]

from sluice_core import bus as core
from sluice_core.bus import Bucket, Bus
from sluice_core.bus.permissions import ADMIN, PROGRAMS, SERVICES, authorization
from sluice_core.testing import NatsServer, StartNats, eventually
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from sluice_core.testing.serving import Served

__all__ = ["SECRET", "Heard", "Listener", "Nats", "Stream", "agent", "start_bus"]

SECRET = "only-for-this-test"


class Nats(NamedTuple):
    """A nats-server as the platform has it, with all streams."""

    server: NatsServer

    def url(self, user: str = "stream") -> str:
        """URL for one of the users."""
        return self.server.url(user, SECRET)

    def run(self, work: Callable[[Bus], Any], user: str = ADMIN) -> Any:
        """Run a coroutine function with a bus of a user."""

        async def go() -> Any:
            bus = Bus(self.url(user), name="test")
            await bus.open()
            try:
                await bus.wait_connected(10)
                return await work(bus)
            finally:
                await bus.close()

        return asyncio.run(go())

    def stored(self, stream: str) -> int:
        """Count the messages of a stream."""

        async def count(bus: Bus) -> int:
            session = await bus.session()
            found: int = (await session.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
            return found

        return int(self.run(count))

    def limit(self, stream: str, **limits: int) -> None:
        """Change limits of a stream."""

        async def change(bus: Bus) -> None:
            session = await bus.session()
            config = (await session.api(f"STREAM.INFO.{stream}"))["config"]
            await session.api(f"STREAM.UPDATE.{stream}", {**config, **limits})

        self.run(change)


def start_bus(start_nats: StartNats) -> Nats:
    """Start a nats-server and make all streams, as the registry does."""
    server = start_nats(authorization(dict.fromkeys((*SERVICES, PROGRAMS, ADMIN), SECRET)))
    nats = Nats(server)

    async def make(bus: Bus) -> None:
        keep = SERVICES["registry"].keep
        await bus.ensure(
            [each for each in keep if isinstance(each, core.Stream)],
            [each for each in keep if isinstance(each, Bucket)],
        )

    nats.run(make)
    return nats


class Heard(NamedTuple):
    """A message as an agent got it."""

    headers: Mapping[str, str]
    body: bytes


class Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Keeps what came."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.connected = threading.Event()
        self.receipts: set[str] = set()

    def on_connected(self, frame: Any) -> None:
        self.connected.set()

    def on_message(self, frame: Any) -> None:
        self.heard.append(Heard(frame.headers, frame.body))

    def on_receipt(self, frame: Any) -> None:
        self.receipts.add(frame.headers["receipt-id"])


@contextlib.contextmanager
def agent(broker: Broker) -> Iterator[tuple[Any, Listener]]:
    """Connect as an agent does (swf-clients.md 7)."""
    connection = stomp.StompConnection11(
        [broker.address], heartbeats=(30000, 30000), auto_content_length=False, auto_decode=False, timeout=10
    )
    listener = Listener()
    connection.set_listener("test", listener)
    connection.connect(USER, PASSWORD, wait=True, headers={"client-id": f"agent-{uuid4().hex}"})
    assert listener.connected.wait(10)
    try:
        yield connection, listener
    finally:
        receipt = uuid4().hex
        connection.disconnect(receipt)


class Stream:
    """The service behind a real port."""

    def __init__(self, served: Served, headers: Mapping[str, str], close: Callable[[], None]) -> None:
        self.close = close
        self.url = served.url
        self._admin = served.admin_url
        self.http = requests.Session()
        self.http.headers.update(headers)

    def ready(self) -> bool:
        """Whether it can take requests."""
        return self.http.get(f"{self._admin}/readyz", timeout=5).status_code == 200

    def bridge(self) -> str:
        """What readiness says of the bridge."""
        checks = self.http.get(f"{self._admin}/readyz", timeout=5).json()["checks"]
        return str(checks["bridge"]["detail"])

    def listening(self) -> None:
        """Wait until the bridge listens to the broker."""
        eventually(lambda: self.bridge().startswith("connected"), 20)

    def stomp_port(self) -> int:
        """The port of the STOMP door; 0 while it is closed."""
        checks = self.http.get(f"{self._admin}/readyz", timeout=5).json()["checks"]
        said = str(checks["stomp"]["detail"])
        return int(said.removeprefix("listens on ").split(",")[0]) if said.startswith("listens on ") else 0

    def metric(self, name: str) -> float | None:
        """Return a metric without labels."""
        text = self.http.get(f"{self._admin}/metrics", timeout=5).text
        lines = (line.split() for line in text.splitlines())
        return next((float(words[1]) for words in lines if words[0] == name), None)

    def rows(self, **query: Any) -> list[dict[str, Any]]:
        """Return recorded messages, the oldest first."""
        reply = self.http.get(f"{self.url}/api/workflow-messages/", params=query, timeout=10)
        assert reply.status_code == 200, reply.text
        return list(reversed(reply.json()))

    def recorded(self, count: int, timeout: float = 15) -> list[dict[str, Any]]:
        """Wait until so many messages are recorded, and return them."""

        def enough() -> list[dict[str, Any]]:
            found = self.rows()
            assert len(found) >= count, f"{len(found)} of {count} rows"
            return found

        return eventually(enough, timeout)

    def letters(self, **query: Any) -> list[dict[str, Any]]:
        """Return dead letters, the newest first."""
        found: list[dict[str, Any]] = self.http.get(f"{self.url}/api/dlq/", params=query, timeout=10).json()
        return found

    def send(self, message: Any, **body: Any) -> requests.Response:
        """Send a message by HTTP."""
        return self.http.post(f"{self.url}/api/messages/", json={"message": message, **body}, timeout=10)
