"""Messages to those who follow them: over several replicas, through restarts, by ``sluice messages tail``."""

import asyncio
import contextlib
import json
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from sluice_core.bus import DLQ, INBOUND, MESSAGES, OUTBOUND, Bus
from sluice_core.testing import NatsServer, eventually
from sluice_core.testing.tokens import Tokens
from sluice_stream.messages import Message
from tests.integration.platforms import BIN, Serve, Up, clean_environment

PATH = "/api/messages/stream/"


class Follower:
    """Follows messages in a thread, until its stream ends."""

    def __init__(self, url: str, headers: dict[str, str], last: str = "") -> None:
        self.numbers: list[int] = []
        self.last = last
        self.client_id = ""
        headers = headers | ({"Last-Event-ID": last} if last else {})
        eventually(lambda: self._open(url + PATH, headers), 30)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        eventually(lambda: self.client_id)

    def ended(self) -> None:
        """Wait until the stream has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._reply.close()

    def _open(self, url: str, headers: dict[str, str]) -> bool:
        self._reply = requests.get(url, headers=headers, stream=True, timeout=60)
        if self._reply.status_code != 200:  # it has not read the stream yet
            self._reply.close()
        return self._reply.status_code == 200

    def _read(self) -> None:
        data: dict[str, Any] = {}
        # Cut off: the rest comes elsewhere.
        with contextlib.suppress(requests.RequestException):
            for line in self._reply.iter_lines(chunk_size=None):
                if line.startswith(b"data: "):
                    data = json.loads(line[6:])
                elif line.startswith(b"id: "):
                    self.last = line[4:].decode()
                    self.client_id = data.get("client_id", self.client_id)
                    self.numbers += [data["n"]] if "n" in data else []


def on_bus(url: str, work: Callable[[Bus], Awaitable[None]]) -> None:
    async def run() -> None:
        bus = Bus(url, name="test")
        await bus.open()
        await bus.ensure([MESSAGES, INBOUND, OUTBOUND, DLQ])
        try:
            await work(bus)
        finally:
            await bus.close()

    asyncio.run(run())


def publish(url: str, first: int, last: int) -> None:
    async def work(bus: Bus) -> None:
        for number in range(first, last):
            message = Message(uuid4(), "/topic/epictopic", datetime.now(UTC), b'{"msg_type":"stf_gen","n":%d}' % number)
            await bus.publish_stored(
                message.fields.subject, message.body, msg_id=str(message.id), headers=message.headers
            )

    on_bus(url, work)


def test_two_replicas_give_each_client_each_message_once(
    fresh_database: Callable[[str], str], nats_server: NatsServer, tmp_path: Path
) -> None:
    """Scenario 23 of swf-monitor.md, and what a client sees of the end of its replica."""
    tokens, nats = Tokens(), nats_server.url()
    asyncio.run(tokens.publish(nats))
    publish(nats, 0, 1)
    database, headers = fresh_database("sluice_stream"), tokens.header("stream:read")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    one, other = (Serve("stream", folder, database_url=database, nats_url=nats) for folder in folders)
    with one, other:
        first, second = Follower(one.http, headers), Follower(other.http, headers)
        for replica in (one, other):
            status = requests.get(f"{replica.http}{PATH}status/", headers=headers, timeout=10).json()
            assert status["connected_clients"] == 2
            assert set(status["client_ids"]) == {first.client_id, second.client_id}
        publish(nats, 1, 2)
        eventually(lambda: first.numbers == second.numbers == [1])
        eventually(lambda: len(requests.get(f"{one.http}/api/workflow-messages/", timeout=10).json()) == 2)

        publishing = threading.Thread(target=publish, args=(nats, 2, 300))
        publishing.start()
        eventually(lambda: len(first.numbers) > 20)
        assert one.stop() < 5
        first.ended()
        again = Follower(other.http, headers, first.last)
        publishing.join()
        eventually(lambda: len(second.numbers) == 299)
        assert second.numbers == list(range(1, 300))
        eventually(lambda: len(first.numbers) + len(again.numbers) >= 299)
        assert first.numbers + again.numbers == list(range(1, 300))
        # What was on its way to the recorder that ended was given back, but for what the server was just sending.
        eventually(lambda: len(requests.get(f"{other.http}/api/workflow-messages/", timeout=10).json()) == 300, 75)
        status = requests.get(f"{other.http}{PATH}status/", headers=headers, timeout=10).json()
        assert set(status["client_ids"]) == {second.client_id, again.client_id}
    for follower in (second, again):
        follower.ended()


@contextmanager
def tail(up: Up, *options: str) -> Iterator[list[dict[str, Any]]]:
    """Run ``sluice messages tail --json``; give what it has printed so far."""
    environment = clean_environment(SLUICE_DATA=str(up.data))
    command = [str(BIN / "sluice"), "messages", "tail", "--json", *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    shown: list[dict[str, Any]] = []

    def read() -> None:
        assert process.stdout is not None
        shown.extend(json.loads(line) for line in process.stdout)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield shown
    finally:
        process.terminate()
        process.wait(10)
        thread.join()
        assert process.stdout is not None
        process.stdout.close()


def test_tail_goes_on_by_itself_when_the_platform_was_away(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as up:
        up.keeps_ports = True
        client = up.client()

        def send(number: int, **more: Any) -> None:
            body = {"message": {"msg_type": "t", "n": number, "sender": "s", **more}}
            eventually(lambda: client.post("/api/messages/", body).status_code == 202, 30)

        status = f"{PATH}status/"
        with tail(up, "--types", "t", "--namespace", "n1") as shown:
            eventually(lambda: client.get(status).json()["connected_clients"] == 1, 30)
            send(0, namespace="n1")
            send(1, namespace="n2")
            eventually(lambda: [each["n"] for each in shown] == [0], 30)
            up.stop()
            up.start()
            send(2, namespace="n1")
            eventually(lambda: [each["n"] for each in shown] == [0, 2], 60)
            first = shown[0]["id"]
        with tail(up, "--after", first) as rest:
            eventually(lambda: [each["n"] for each in rest] == [1, 2], 30)
        client.close()
