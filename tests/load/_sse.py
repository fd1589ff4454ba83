"""How fast messages reach those who follow them; lines of the benchmark ``stream``.

The clients are a process of their own, which does as little as can be done with an event: it finds in it when the
message was published, by the clock that all processes of a machine share. Messages are published without waiting for
the stream's answers, at fixed times; whatever is late counts from when it was handed to NATS.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from uuid import uuid4

import requests
import uvloop

from sluice_core.bus import DLQ, INBOUND, MESSAGES, OUTBOUND, Bus, Stream, stream_state
from sluice_core.bus.session import ApiError
from sluice_core.testing import eventually, eventually_async
from sluice_core.testing.tokens import Tokens
from sluice_stream.messages import Message
from tests.integration.platforms import Serve
from tests.load._platform import Platform
from tests.load._programs import cpu, memory, sampled
from tests.load._report import AtLeast, AtMost, Report
from tests.load._writer import percentile

__all__ = ["TARGETS", "measure"]

CLIENTS = 2000
RATE = 200.0
# Each client wants one type of so many.
TYPES = 20
FAST = 5000.0
PATH = "/api/messages/stream/"
MB = 1e6

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "sse_p99_ms": AtMost(100),
    "sse_memory_mb": AtMost(400),
    "sse_lost": AtMost(0),
    # The last one is on its way for a moment.
    "sse_one_client_per_s": AtLeast(0.95 * FAST),
    "sse_one_client_lost": AtMost(0),
}

_AT = re.compile(rb'"at": ([0-9.]+)')


def measure(report: Report, platform: Platform, *, seconds: float = 10.0) -> None:
    """Measure many clients, and one that wants everything; for the benchmark ``stream``.

    Parameters
    ----------
    seconds
        For which messages are published, each time.
    """
    with following(platform) as (stream, tokens):
        asyncio.run(fan_out(report, stream, platform.nats_url, tokens, seconds=seconds))
    with following(platform, storage="memory") as (stream, tokens):
        asyncio.run(one_client(report, stream, platform.nats_url, tokens, seconds=seconds))


async def fan_out(report: Report, stream: Serve, nats_url: str, tokens: Tokens, *, seconds: float) -> None:
    """Measure many clients, each of which gets a twentieth of the messages."""
    used = cpu(stream.pid)
    with Clients(stream.http, tokens, CLIENTS, [f"t{n}" for n in range(TYPES)]) as clients:
        connected = cpu(stream.pid) - used
        with sampled(partial(memory, stream.pid)) as sizes:
            used, began = cpu(stream.pid), time.monotonic()
            count = await publish(nats_url, RATE, seconds, TYPES)
            busy = (cpu(stream.pid) - used) / (time.monotonic() - began)
            found = clients.result(count * CLIENTS // TYPES)
    report.measured |= {
        "sse_clients": CLIENTS,
        "sse_messages_per_s": RATE,
        "sse_events_per_s": count * CLIENTS / TYPES / seconds,
        "sse_p50_ms": found["p50"] * 1e3,
        "sse_p99_ms": found["p99"] * 1e3,
        "sse_longest_ms": found["longest"] * 1e3,
        "sse_lost": count * CLIENTS // TYPES - found["events"],
        "sse_processors": busy,
        "sse_connect_cpu_ms": connected / CLIENTS * 1e3,
        "sse_clients_processors": found["processors"],
        "sse_memory_mb": max(sizes) / MB,
    }
    if found["processors"] > 0.95:
        report.doubts.append("The clients of the event stream were themselves busy, so events may be sooner than told.")


async def one_client(report: Report, stream: Serve, nats_url: str, tokens: Tokens, *, seconds: float) -> None:
    """Measure one client that wants everything, at a rate that few networks of agents have."""
    with Clients(stream.http, tokens, 1, []) as clients:
        began = time.monotonic()
        count = await publish(nats_url, FAST, seconds, 1)
        found = clients.result(count)
    report.measured |= {
        "sse_one_client_per_s": found["events"] / (found["last"] - began),
        "sse_one_client_p99_ms": found["p99"] * 1e3,
        "sse_one_client_lost": count - found["events"],
    }


@contextmanager
def following(platform: Platform, *, storage: Literal["file", "memory"] = "file") -> Iterator[tuple[Serve, Tokens]]:
    """Run the stream service with new streams to read and somebody whose tokens it takes.

    Parameters
    ----------
    storage
        Of the messages. One that waits for the disk takes fewer of them than one client is given here.
    """
    tokens = Tokens()
    asyncio.run(_prepare(platform.nats_url, tokens, replace(MESSAGES, storage=storage)))
    url = platform.database(f"sluice_stream_{storage}", "sluice_stream")
    with platform.service("stream", url) as stream:
        eventually(partial(_follows, stream, tokens), 30)
        yield stream, tokens


def _follows(stream: Serve, tokens: Tokens) -> bool:
    headers = tokens.header("stream:read")
    with requests.get(stream.http + PATH, headers=headers, stream=True, timeout=10) as reply:
        return reply.status_code == 200


async def _prepare(nats_url: str, tokens: Tokens, messages: Stream) -> None:
    await tokens.publish(nats_url)
    bus = Bus(nats_url, name="bench")
    await bus.open()
    with contextlib.suppress(ApiError):  # there is none
        await (await bus.session()).api(f"STREAM.DELETE.{messages.name}")
    await bus.ensure([messages, INBOUND, OUTBOUND, DLQ])
    await bus.close()


async def publish(nats_url: str, rate: float, seconds: float, types: int) -> int:
    """Publish messages at fixed times; return how many the stream has stored."""
    bus = Bus(nats_url, name="bench")
    await bus.open()
    before = (await stream_state(bus, MESSAGES.name)).last
    address = urlsplit(nats_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"bench","version":"1"}\r\n')
    answering = asyncio.create_task(_answer_pings(reader, writer))
    count, began = int(rate * seconds), time.monotonic()
    for number in range(count):
        ahead = began + number / rate - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        writer.write(_message(f"t{number % types}", number))
    await writer.drain()

    async def stored() -> bool:
        return (await stream_state(bus, MESSAGES.name)).last - before >= count

    await eventually_async(stored, 60)
    answering.cancel()
    writer.close()
    await bus.close()
    return count


def _message(msg_type: str, number: int) -> bytes:
    body = {
        "msg_type": msg_type,
        "at": time.monotonic(),
        "run_id": "100010",
        "sender": "daq-simulator-ada-1",
        "namespace": "torre1",
        "execution_id": "stf_datataking-ada-0044",
        "filename": f"swf.20261123.{number:06}.stf",
        "sequence": number,
        "checksum": "ad:5f1c3a7e",
        "size_bytes": 1048576,
        "state": "run",
        "substate": "physics",
        "timestamp": "2026-11-23T10:00:00.123456",
    }
    message = Message(uuid4(), "/topic/epictopic", datetime.now(UTC), json.dumps(body).encode())
    lines = {**message.headers, "Nats-Msg-Id": str(message.id)}
    head = "".join(["NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"]).encode()
    size = f"{len(head)} {len(head) + len(message.body)}"
    return f"HPUB {message.fields.subject} {size}\r\n".encode() + head + message.body + b"\r\n"


async def _answer_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise RuntimeError(line.decode())


# --- the process of the clients


class Clients:
    """Clients of the event stream in a process of their own; as a context manager they are connected.

    Parameters
    ----------
    types
        Each client wants one of these in turn; none: everything.
    """

    def __init__(self, url: str, tokens: Tokens, count: int, types: list[str]) -> None:
        given = {"url": url, "headers": tokens.header("stream:read"), "count": count, "types": types}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.load._sse"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(given)

    def __enter__(self) -> "Clients":
        self._hear()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def result(self, expected: int) -> dict[str, Any]:
        """Wait until as many events have come, or a while without one; return what they were like."""
        self._say({"expected": expected})
        return self._hear()

    def _say(self, what: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients of the event stream have died")
        found: dict[str, Any] = json.loads(line)
        return found


class _Tally:
    """What all clients got."""

    def __init__(self) -> None:
        self.connected = 0
        self.late: list[float] = []
        self.last = 0.0
        self.refused = b""


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, tally: _Tally) -> None:
        self._request = request
        self._tally = tally
        self._rest = b""
        self._began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class.
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now, tally = time.monotonic(), self._tally
        if not self._began:
            self._rest += data
            if not self._rest.startswith(b"HTTP/1.1 200 "[: len(self._rest)]):
                self._tally.refused = self._rest
            if b"event: connected" not in self._rest:
                return
            self._began, data = True, self._rest
            tally.connected += 1
            self._rest = b""
        # A packet may end within an event.
        data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        for at in _AT.findall(data, 0, end):
            tally.late.append(now - float(at))
            tally.last = now
        self._rest = data[end:]


def _came(tally: _Tally, count: int) -> bool:
    return tally.connected >= count or bool(tally.refused)


async def _follow() -> None:
    loop = asyncio.get_running_loop()
    given = json.loads(await asyncio.to_thread(sys.stdin.readline))
    address, tally = urlsplit(given["url"]), _Tally()
    headers = "".join(f"{name}: {value}\r\n" for name, value in given["headers"].items())
    for number in range(given["count"]):
        query = f"?msg_types={given['types'][number % len(given['types'])]}" if given["types"] else ""
        request = f"GET {PATH}{query} HTTP/1.1\r\nHost: {address.netloc}\r\n{headers}\r\n".encode()
        await loop.create_connection(partial(_Client, request, tally), address.hostname, address.port)
        # A few at a time, as a port takes them.
        await eventually_async(partial(_came, tally, number - 100), 60)
    await eventually_async(partial(_came, tally, given["count"]), 60)
    if tally.refused:
        raise RuntimeError(f"a stream is refused: {tally.refused!r}")
    began, used = time.monotonic(), time.process_time()
    print("{}", flush=True)
    expected = json.loads(await asyncio.to_thread(sys.stdin.readline))["expected"]
    busy = (time.process_time() - used) / (time.monotonic() - began)
    with contextlib.suppress(AssertionError):
        await eventually_async(lambda: len(tally.late) >= expected, 15)
    result = {
        "events": len(tally.late),
        "p50": percentile(tally.late, 50),
        "p99": percentile(tally.late, 99),
        "longest": max(tally.late),
        "last": tally.last,
        "processors": busy,
    }
    print(json.dumps(result), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    uvloop.run(_follow())
