"""Two STOMP doors of one bus, the active one killed amid queue traffic."""

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import stomp  # type: ignore[import-untyped]

from sluice_core.testing import Databases, StartNats, eventually
from sluice_core.testing.stomp import Agent, Heard, Spot
from sluice_core.testing.streams import make_streams
from sluice_core.testing.tokens import Tokens
from tests.integration.platforms import Serve

QUEUE = "/queue/work"
RATE = 200


class Pair:
    """Two instances of the stream service, of which one has the door."""

    def __init__(self, serves: list[Serve], passcode: str) -> None:
        self.serves = serves
        self._passcode = passcode

    def open(self) -> tuple[Serve, Spot] | None:
        """Return the instance whose door is open, if there is one."""
        for serve in self.serves:
            if serve.running:
                checks = requests.get(f"{serve.admin}/readyz", timeout=5).json()["checks"]
                said = checks["stomp"]["detail"]
                if said.startswith("listens on "):
                    return serve, Spot(("127.0.0.1", int(said.split()[-1])), "x", self._passcode)
        return None

    def wait(self, timeout: float = 10) -> tuple[Serve, Spot]:
        """Wait until a door is open."""
        found = eventually(self.open, timeout)
        assert found is not None
        return found


@pytest.fixture
def pair(tmp_path: Path, databases: Databases, start_nats: StartNats, tokens: Tokens) -> Iterator[Pair]:
    url = start_nats().url()
    asyncio.run(tokens.publish(url))
    asyncio.run(make_streams(url))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(databases.fresh("sluice_stream"))
        serves = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            serve = Serve(
                "stream",
                folder,
                database_url=database,
                nats_url=url,
                SLUICE_STREAM_STOMP_PORT="0",
                SLUICE_STREAM_STOMP_HOST="127.0.0.1",
            )
            serves.append(stack.enter_context(serve))
        for serve in serves:
            eventually(serve.ready, 30)
        yield Pair(serves, tokens.header("admin")["Authorization"].split()[1])


class Client(threading.Thread):
    """Somebody at the door, who comes back for as long as it takes."""

    def __init__(self, pair: Pair, live: Callable[["Client", Agent], None]) -> None:
        super().__init__(name="client")
        self._pair = pair
        self._live = live
        self.over = threading.Event()

    def run(self) -> None:
        """Live again and again."""
        while not self.over.is_set():
            with contextlib.suppress(stomp.exception.StompException, OSError, requests.RequestException, Lost):
                found = self._pair.open()
                if found is not None:
                    with found[1].agent(uuid4().hex) as agent:
                        self._live(self, agent)
            self.over.wait(0.1)


class Lost(Exception):
    """The connection is gone."""


def check(agent: Agent) -> None:
    if agent.lost.is_set():
        raise Lost


def test_kill_9_of_the_active_door_loses_no_queued_message_and_another_takes_over(pair: Pair) -> None:
    confirmed: set[int] = set()
    processed: set[int] = set()
    numbers = itertools.count()
    began = time.monotonic()

    def produce(client: Client, agent: Agent) -> None:
        while not client.over.is_set():
            check(agent)
            number = next(numbers)
            client.over.wait(max(0.0, began + number / RATE - time.monotonic()))
            agent.connection.send(QUEUE, json.dumps(number), headers={"receipt": str(number)})
            confirmed.update(int(each) for each in list(agent.receipts) if each.isdecimal())

    def consume(client: Client, agent: Agent) -> None:
        acknowledged = 0
        agent.subscribe(QUEUE, ack="client-individual", **{"activemq.prefetchSize": "50"})
        while not client.over.wait(0.005):
            check(agent)
            some: list[Heard] = agent.heard[acknowledged:]
            for heard in some:
                processed.add(json.loads(heard.body))
                agent.ack(heard)
                acknowledged += 1

    pair.wait(15)
    clients = [Client(pair, produce), Client(pair, consume), Client(pair, consume)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: len(processed) > 2 * RATE, 30)
        active, _ = pair.wait()
        active.kill()
        killed = time.monotonic()
        pair.wait()
        print(f"another door was open after {time.monotonic() - killed:.1f} s")
        before = len(processed)
        eventually(lambda: len(processed) > before + 2 * RATE, 30)
        clients[0].over.set()
        clients[0].join()
        assert len(confirmed) > 4 * RATE
        eventually(lambda: confirmed <= processed, 30)
    finally:
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
    print(f"{len(confirmed)} confirmed, {len(processed)} processed")


def test_durable_subscriptions_and_what_they_missed_are_there_at_the_next_door(pair: Pair) -> None:
    name: dict[str, Any] = {"activemq.subscriptionName": "keeper"}
    active, spot = pair.wait(15)
    with spot.agent("me") as agent:
        agent.subscribe("/topic/kept", **name)
    with spot.agent() as sender:
        sender.send_surely("/topic/kept", "missed")
    active.kill()
    _, spot = pair.wait()
    with spot.agent("me") as agent:
        agent.subscribe("/topic/kept", **name)
        agent.send_surely("/topic/kept", "live")
        assert agent.bodies(2) == ["missed", "live"]
