"""How fast the bridge moves messages from a real ActiveMQ into the stream, beside a bare publisher."""

import asyncio
import json
import statistics
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import nats
import stomp  # type: ignore[import-untyped]
from nats.js import JetStreamContext

from sluice_core import bus as core
from sluice_core.bus import MESSAGES, Bucket, Bus
from sluice_core.bus.permissions import SERVICES
from sluice_core.testing import eventually, eventually_async
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from tests.integration.platforms import Serve, samples
from tests.load._platform import Platform
from tests.load._programs import cpu
from tests.load._report import Report

__all__ = ["bridge"]

# On their way at once from the bare publisher; more only wait in the server's queue.
IN_FLIGHT = 512
TOPIC = "/topic/epictopic"
BARE = "BENCH"
BODY = {
    "msg_type": "stf_gen",
    "namespace": "bench",
    "sender": "daq_simulator-agent-ada-7",
    "execution_id": "stf_datataking-ada-0042",
    "run_id": "100010",
    "filename": "swf.100010.000001.stf",
    "sequence": 1,
    "timestamp": "2026-05-05T10:00:00.123456",
    "simulation_tick": 14.2,
    "state": "run",
    "substate": "physics",
    "checksum": "a" * 64,
}


def bridge(report: Report, platform: Platform, broker: Broker, *, rounds: int, messages: int) -> None:
    """Measure both in turns, and note rates and ratio.

    Parameters
    ----------
    messages
        Of each turn.
    """
    asyncio.run(_make_streams(platform.nats_url))
    url = platform.database("sluice_stream", "sluice_stream")
    host, port = broker.address
    settings = {
        "activemq_host": host,
        "activemq_port": str(port),
        "activemq_user": USER,
        "activemq_password": PASSWORD,
        "activemq_client_id": f"bench-{uuid4().hex}",
    }
    bodies = [json.dumps({**BODY, "sequence": number}) for number in range(messages)]
    turns: list[tuple[float, float]] = []
    costs: list[float] = []
    with platform.service("stream", url, **settings) as service:
        eventually(lambda: samples(service.admin, "sluice_bridge_connected") == {frozenset(): 1.0}, 30)
        for _ in range(rounds):
            bare = asyncio.run(_publish(platform.nats_url, bodies))
            used = cpu(service.pid)
            ours = asyncio.run(_through(platform.nats_url, broker, service, bodies))
            costs.append((cpu(service.pid) - used) / messages)
            turns.append((ours, bare))
            print(f"  bridge: {ours:,.0f}/s to {bare:,.0f}/s", flush=True)
    report.measured["bridge_per_s"] = statistics.median(ours for ours, _ in turns)
    report.measured["bridge_other_per_s"] = statistics.median(bare for _, bare in turns)
    report.measured["bridge_cpu_us"] = statistics.median(costs) * 1e6
    report.ratios["bridge"] = statistics.median(ours / bare for ours, bare in turns)


async def _make_streams(url: str) -> None:
    bus = Bus(url, name="bench")
    await bus.open()
    try:
        kept = SERVICES["registry"].keep
        streams = [each for each in kept if isinstance(each, core.Stream)]
        bare = replace(MESSAGES, name=BARE, subjects=("bench.>",))
        await bus.ensure([*streams, bare], [each for each in kept if isinstance(each, Bucket)])
    finally:
        await bus.close()


async def _publish(url: str, bodies: list[str]) -> float:
    """Publish as a plain client does, each answered after its fsync; messages a second."""
    client = await nats.connect(url)
    stream = client.jetstream()
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(body: bytes) -> None:
        async with slots:
            await stream.publish("bench.x", body, headers={"Nats-Msg-Id": uuid4().hex})

    began = time.perf_counter()
    await asyncio.gather(*(one(body.encode()) for body in bodies))
    took = time.perf_counter() - began
    await client.close()
    return len(bodies) / took


async def _through(url: str, broker: Broker, service: Serve, bodies: list[str]) -> float:
    """Publish on the topic, until all is in the stream and acknowledged to the broker; messages a second."""
    client = await nats.connect(url)
    stream = client.jetstream()
    before = await _count(stream)
    began = time.perf_counter()
    sending = asyncio.create_task(asyncio.to_thread(_send, broker, bodies))

    async def there() -> bool:
        # The look itself shall cost nothing.
        await asyncio.sleep(0.02)
        return await _count(stream) >= before + len(bodies)

    await eventually_async(there, 300)
    took = time.perf_counter() - began
    await sending
    await client.close()

    def acknowledged() -> bool:
        stored, received = (samples(service.admin, f"sluice_bridge_{name}_total") for name in ("stored", "received"))
        return stored == received

    eventually(acknowledged, 30)
    return len(bodies) / took


async def _count(stream: JetStreamContext) -> int:
    state = (await stream.stream_info(MESSAGES.name)).state
    return int(state.messages)


def _send(broker: Broker, bodies: list[str]) -> None:
    connection: Any = stomp.StompConnection11([broker.address], auto_content_length=False)
    connection.connect(USER, PASSWORD, wait=True, headers={"client-id": uuid4().hex})
    for body in bodies:
        connection.send(TOPIC, body)
    connection.disconnect("bye")
