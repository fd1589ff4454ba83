"""How fast the STOMP door is beside a real ActiveMQ: ten senders and ten who listen, and how long a message takes.

Both are measured in turns, by the same clients: sockets that write prepared frames and count what comes, since a real
client library would be slower than either. The door stores what is said on `/topic/epictopic` before it passes it on;
ActiveMQ never does, and the door does not on other topics, which is what is compared.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from uuid import uuid4

import requests

from sluice_core.testing import activemq, eventually
from sluice_core.testing.activemq import PASSWORD, USER
from sluice_core.testing.stomp import Spot
from sluice_core.testing.streams import make_streams
from sluice_core.testing.tokens import Tokens
from tests.integration.platforms import Serve, samples
from tests.load._bridge import BODY
from tests.load._platform import Platform, started
from tests.load._programs import cpu
from tests.load._report import AtLeast, AtMost, Report

TARGETS: Mapping[str, AtLeast | AtMost] = {"latency_p99_ms": AtMost(20.0)}
SENDERS = LISTENERS = 10
RATE = 200
RECORDED = "/topic/epictopic"
TIMEOUT = 120.0


class Client:
    """A connection that counts messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, spot: Spot) -> "Client":
        """Log in."""
        client = cls(*await asyncio.open_connection(*spot.address))
        client.say("CONNECT", {"accept-version": "1.1", "host": "x", "login": spot.user, "passcode": spot.passcode})
        await client.hear(b"CONNECTED\n")
        return client

    def say(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Write a frame."""
        self._writer.write(frame(command, headers, body))

    async def hear(self, beginning: bytes) -> bytes:
        """Return the next frame, which must begin so."""
        found = (await self._reader.readuntil(b"\0")).lstrip(b"\n")
        if not found.startswith(beginning):
            raise RuntimeError(found.decode())
        return found

    async def subscribe(self, topic: str) -> None:
        """Listen."""
        self.say("SUBSCRIBE", {"id": "1", "destination": topic, "receipt": "r"})
        await self.hear(b"RECEIPT\n")

    async def count(self, messages: int) -> None:
        """Read so many messages; none of them has a NUL in it."""
        while messages > 0:
            data = await self._reader.read(2**18)
            if not data or b"ERROR\n" in data:
                raise RuntimeError(f"{messages} messages did not come: {data[:500]!r}")
            messages -= data.count(b"\0")

    async def send(self, frames: bytes, size: int) -> None:
        """Write frames, as fast as they are taken."""
        for begin in range(0, len(frames), size):
            self._writer.write(frames[begin : begin + size])
            await self._writer.drain()

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()


def frame(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return a frame as agents write it: without a length."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0\n"


async def through(spot: Spot, topic: str, messages: int) -> float:
    """Send from all senders to all listeners; return messages a second, each counted once."""
    listeners = [await Client.connect(spot) for _ in range(LISTENERS)]
    senders = [await Client.connect(spot) for _ in range(SENDERS)]
    for listener in listeners:
        await listener.subscribe(topic)
    each = messages // SENDERS
    frames = b"".join(
        frame("SEND", {"destination": topic}, json.dumps({**BODY, "sequence": number}).encode())
        for number in range(each)
    )
    began = time.perf_counter()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(
            *(sender.send(frames, 2**16) for sender in senders),
            *(listener.count(each * SENDERS) for listener in listeners),
        )
    took = time.perf_counter() - began
    for client in (*listeners, *senders):
        await client.close()
    return each * SENDERS / took


async def latency(spot: Spot, topic: str, seconds: float) -> float:
    """Send at a steady rate to one listener; return the 99th percentile of the way there, in milliseconds."""
    listener, sender = await Client.connect(spot), await Client.connect(spot)
    await listener.subscribe(topic)
    messages = int(seconds * RATE)
    took: list[float] = []

    async def listen() -> None:
        for _ in range(messages):
            found = await listener.hear(b"MESSAGE\n")
            sent = json.loads(found.rpartition(b"\n\n")[2].rstrip(b"\0"))["sent"]
            took.append(time.perf_counter() - sent)

    async def speak() -> None:
        began = time.perf_counter()
        for number in range(messages):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            body = json.dumps({**BODY, "sent": time.perf_counter()}).encode()
            sender.say("SEND", {"destination": topic}, body)

    async with asyncio.timeout(TIMEOUT + seconds):
        await asyncio.gather(listen(), speak())
    await listener.close()
    await sender.close()
    return statistics.quantiles(took, n=100)[98] * 1000


def measure(report: Report, serve: Serve, door: Spot, other: Spot | None, given: argparse.Namespace) -> None:
    """Measure both in turns, and note rates, latencies and their ratios."""
    rates: dict[str, list[float]] = {"topic": [], "recorded": [], "activemq": []}
    times: dict[str, list[float]] = {"": [], "activemq_": []}
    costs: list[float] = []
    # Before the floods: what they leave to be recorded keeps both processors busy.
    for _ in range(given.rounds):
        times[""].append(asyncio.run(latency(door, RECORDED, given.seconds)))
        if other is not None:
            times["activemq_"].append(asyncio.run(latency(other, RECORDED, given.seconds)))
    for _ in range(given.rounds):
        used = cpu(serve.pid)
        rates["topic"].append(asyncio.run(through(door, f"/topic/{uuid4().hex}", given.messages)))
        costs.append((cpu(serve.pid) - used) / given.messages)
        rates["recorded"].append(asyncio.run(through(door, RECORDED, given.messages)))
        if other is not None:
            rates["activemq"].append(asyncio.run(through(other, f"/topic/{uuid4().hex}", given.messages)))
        print("  " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items() if found), flush=True)
    report.measured |= {f"{name}_per_s": statistics.median(found) for name, found in rates.items() if found}
    report.measured |= {f"latency_{name}p99_ms": statistics.median(found) for name, found in times.items() if found}
    report.measured["topic_cpu_us"] = statistics.median(costs) * 1e6
    if rates["activemq"]:
        pairs = zip(rates["topic"], rates["activemq"], strict=True)
        report.ratios["topic"] = statistics.median(ours / theirs for ours, theirs in pairs)


def start(platform: Platform, tokens: Tokens) -> Serve:
    """Return the service with its door."""
    asyncio.run(tokens.publish(platform.nats_url))
    asyncio.run(make_streams(platform.nats_url))
    url = platform.database("sluice_stream", "sluice_stream")
    return platform.service("stream", url, stomp_port="0", stomp_host="127.0.0.1")


def port(serve: Serve) -> int:
    """Return where the door is, once it is open."""
    eventually(lambda: samples(serve.admin, "sluice_stomp_active") == {frozenset(): 1.0}, 30)
    return eventually(lambda: _said(serve), 30)


def _said(serve: Serve) -> int:
    said = requests.get(f"{serve.admin}/readyz", timeout=10).json()["checks"]["stomp"]["detail"]
    return int(said.split()[-1]) if said.startswith("listens on ") else 0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--messages", type=int, default=10_000, help="of each turn (default: 10000)")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement of latency (default: 5)")
    given = parser.parse_args()
    report = Report("stomp", TARGETS)
    tokens = Tokens()
    passcode = tokens.header("admin")["Authorization"].split()[1]
    with started() as platform, activemq.here() as broker, start(platform, tokens) as serve:
        door = Spot(("127.0.0.1", port(serve)), "bench", passcode)
        other = Spot(broker.address, USER, PASSWORD) if broker is not None else None
        if other is None:
            report.doubts.append(activemq.ABSENT)
        measure(report, serve, door, other, given)
    report.show()


if __name__ == "__main__":
    main()
