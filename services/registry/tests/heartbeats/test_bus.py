"""Heartbeats of agents without HTTP, and those of a broker (contract 7.3, decision 9), over a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client

from sluice_core.dlq import REASON
from sluice_core.subjects import HeartbeatIn
from sluice_core.testing import NatsServer, eventually_async
from sluice_core.testing.serving import serving

from ..conftest import MakeApp
from .conftest import Registry


class Bus:
    """What a program sees of the bus, and the registry behind it."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self.client = client
        self.stream = client.jetstream()
        self.registry = registry

    async def exists(self) -> bool:
        """Tell whether the registry has made its streams."""
        return "HEARTBEATS" in {each.config.name for each in await self.stream.streams_info()}

    async def beat(self, name: str, body: Any, namespace: str | None = None) -> None:
        """Publish a heartbeat."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self.stream.publish(HeartbeatIn(namespace, name).subject, data)

    async def agent(self, name: str, **wanted: Any) -> dict[str, Any]:
        """Wait until an agent is as wanted."""

        def look() -> dict[str, Any]:
            found = {agent["instance_name"]: agent for agent in self.registry.agents()}
            assert name in found
            assert {key: found[name][key] for key in wanted} == wanted
            return found[name]

        return await eventually_async(lambda: asyncio.to_thread(look))

    async def messages(self, stream: str, expected: int) -> list[Any]:
        """Wait until a stream holds so many messages; return them."""

        async def count() -> bool:
            return (await self.stream.stream_info(stream)).state.messages == expected

        await eventually_async(count)
        return [await self.stream.get_msg(stream, seq=number + 1) for number in range(expected)]


@pytest.fixture
async def bus(registry: Registry, make_app: MakeApp, nats_server: NatsServer) -> AsyncIterator[Bus]:
    with serving(make_app(nats_url=nats_server.url())):
        client = await nats.connect(nats_server.url())
        made = Bus(client, registry)
        await eventually_async(made.exists)
        yield made
        await client.close()


async def test_a_heartbeat_on_the_bus_is_one_by_http(bus: Bus) -> None:
    await bus.beat("daq 1", {"pid": 12, "status": "OK", "operational_state": "READY"}, namespace="my lab")
    agent = await bus.agent("daq 1", namespace="my lab", pid=12, operational_state="READY")
    assert agent["agent_type"] == "other"
    (event,) = await bus.messages("AGENTS", 1)
    assert event.subject == "agents.state.my=20lab.daq=201"
    assert msgspec.json.decode(event.data)["data"]["pid"] == 12


async def test_the_subject_says_whose_heartbeat_it_is(bus: Bus) -> None:
    await bus.beat("daq-1", {"instance_name": "another", "namespace": "elsewhere", "pid": 1}, namespace="n1")
    await bus.agent("daq-1", namespace="n1", pid=1)
    assert len(bus.registry.agents()) == 1


async def test_a_broker_heartbeat_of_an_unknown_agent_creates_it(bus: Bus) -> None:
    await bus.beat("q1", {"agent_name": "q1", "status": "WARNING", "msg_type": "x"})
    await bus.agent("q1", agent_type="Unknown", status="WARNING", workflow_enabled=True, namespace=None)


async def test_a_broker_heartbeat_without_a_status_creates_an_agent_of_unknown_status(bus: Bus) -> None:
    await bus.beat("q1", {"agent_name": "q1", "status": ""})
    await bus.agent("q1", agent_type="Unknown", status="UNKNOWN")


@pytest.mark.parametrize(("status", "after"), [("ERROR", "ERROR"), ("", "WARNING")], ids=str)
async def test_a_broker_heartbeat_changes_status_and_enablement_of_a_known_agent(
    bus: Bus, status: str, after: str
) -> None:
    known = {"agent_type": "DATA", "status": "WARNING", "operational_state": "PROCESSING", "workflow_enabled": False}
    before = await bus.registry.beat("q1", **known)
    await bus.beat("q1", {"agent_name": "q1", "status": status})
    agent = await bus.agent("q1", workflow_enabled=True)
    assert (agent["status"], agent["agent_type"], agent["operational_state"]) == (after, "DATA", "PROCESSING")
    assert agent["last_heartbeat"] > before["last_heartbeat"]


async def test_what_is_no_heartbeat_is_parked_with_its_reason_and_stops_nobody(bus: Bus) -> None:
    bad = {
        "text": b"not json",
        "array": b"[1]",
        "deep": b"[" * 100_000,
        "wrong": b'{"pid": "x"}',
        "long": msgspec.json.encode({"agent_name": "long", "status": "s" * 11}),
    }
    for name, body in bad.items():
        await bus.beat(name, body)
    await bus.stream.publish("agents.in.heartbeat.only-one", b"{}")
    await bus.beat("good", {})
    await bus.agent("good")
    parked = await bus.messages("DLQ", len(bad) + 1)
    assert {message.subject for message in parked} == {
        *(f"dlq.agents.in.heartbeat._.{name}" for name in bad),
        "dlq.agents.in.heartbeat.only-one",
    }
    assert all(message.headers[REASON] for message in parked)
    assert [agent["instance_name"] for agent in bus.registry.agents()] == ["good"]


async def test_accepted_heartbeats_can_be_followed_and_are_heard_by_no_consumer_of_ours(bus: Bus) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Any) -> None:
        await heard.put(message.subject)

    await bus.client.subscribe("agents.heartbeat.>", cb=hear)
    await bus.client.flush()
    await bus.beat("daq-1", {"pid": 1}, namespace="n1")
    assert await asyncio.wait_for(heard.get(), 10) == "agents.heartbeat.n1.daq-1"
    assert (await bus.stream.stream_info("HEARTBEATS")).state.last_seq == 1
