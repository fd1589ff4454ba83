"""What the quick tests do once, many times over; and servers that hang instead of dying."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice_core.testing import Databases, eventually
from sluice_embedded import Nats, Postgres
from sluice_embedded.process import processes_in
from tests.integration.platforms import Client, Serve, Up
from tests.integration.test_agents import living, variables
from tests.integration.work import Work, assert_each_change_is_one_event

AGENTS = "/api/systemagents/"
HEARTBEAT = f"{AGENTS}heartbeat/"
TOKEN = "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "data") as up:
        yield up


@pytest.mark.parametrize("seed", [1])
def test_eight_crashes_and_stops_lose_nothing_and_each_change_is_one_event(up: Up, seed: int) -> None:
    chance = random.Random(seed)
    with Work(up, "often", beats=20) as work:
        for crash in range(1, 9):
            work.reach(crash * 0.1 + chance.uniform(-0.04, 0.04))
            work.there.clear()
            if chance.random() < 0.7:
                up.kill()
                eventually(lambda: not up.children(), 10)
            else:
                assert up.stop() < 5
            up.start()
            work.check()
            work.there.set()
        work.reach(1)
        work.check()
    assert_each_change_is_one_event(up, work)


def test_an_agent_rides_out_a_crash_with_its_own_retries(up: Up) -> None:
    """Scenario 5 of swf-clients.md, less the files."""
    with living(variables(up), "--every", "0.2") as process:
        name = process.until("ready")["name"]
        process.until("logged")
        up.kill()
        eventually(lambda: process.requests()[-1][2] is None, 10)
        up.keeps_ports = True
        up.start()
        eventually(lambda: process.requests()[-1][2] == 200, 60)
        process.end()
    (agent,) = up.client().get(AGENTS, params={"instance_name": name}).json()
    assert agent["status"] == "EXITED"


class Registry:
    """A registry alone on servers that may hang."""

    def __init__(self, serve: Serve, postgres: Postgres, nats: Nats) -> None:
        self.serve = serve
        self.postgres = postgres
        self.nats = nats

    def client(self) -> Client:
        return Client(self.serve.http, TOKEN)

    @contextmanager
    def hanging(self, server: Postgres | Nats) -> Iterator[None]:
        """Let a server stand still: its connections stay, and nothing answers."""
        pids = processes_in(server.workdir, server.program)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Postgres(tmp_path / "postgres") as postgres, Nats(tmp_path / "nats") as nats:
        with Databases(postgres).fresh("sluice_registry") as url:
            serve = Serve(
                "registry", tmp_path, database_url=url, nats_url=nats.url(), SLUICE_REGISTRY_ADMIN_TOKEN=TOKEN
            )
            with serve:
                eventually(serve.ready, 30)
                yield Registry(serve, postgres, nats)


def test_a_nats_that_hangs_delays_no_answer(registry: Registry) -> None:
    slowest = 0.0
    client = registry.client()
    with registry.hanging(registry.nats):
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 20:  # longer than the bus takes to notice
            before = time.monotonic()
            assert client.post(HEARTBEAT, {"instance_name": f"daq-{number}"}).status_code == 201
            slowest = max(slowest, time.monotonic() - before)
            number += 1
    assert slowest < 2, f"{slowest:.2f} s"
    eventually(registry.serve.ready, 60)


def test_a_postgresql_that_hangs_loses_no_answered_heartbeat_and_lets_the_process_end(registry: Registry) -> None:
    answered: list[str] = []
    over = threading.Event()

    def another_100(seconds: float) -> bool:
        goal = len(answered) + 100
        try:
            return eventually(lambda: len(answered) >= goal, seconds)
        except AssertionError:
            return False

    def beat(writer: int) -> None:
        client = registry.client()
        number = 0
        while not over.is_set():
            name = f"daq-{writer}-{number}"
            if client.post(HEARTBEAT, {"instance_name": name}, timeout=60).ok:
                answered.append(name)
            number += 1

    with ThreadPoolExecutor(8) as threads:
        beats = [threads.submit(beat, writer) for writer in range(8)]
        for _ in range(5):
            assert another_100(60)
            with registry.hanging(registry.postgres):
                assert not another_100(2)
        assert another_100(60)
        over.set()
        for each in beats:
            each.result(60)
    rows = {row["instance_name"] for row in registry.client().get(AGENTS).json()}
    assert set(answered) <= rows
    with registry.hanging(registry.postgres):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: registry.client().post(HEARTBEAT, {"instance_name": "late"}, timeout=60))
            # All time limits one after the other: requests, tasks, connections.
            assert registry.serve.stop() < 10
