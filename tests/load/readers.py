"""Slow readers of a long list must not disturb those who write.

32 clients read a list of a million log records at 1 kB/s while a writer goes on at a steady rate. Compared is the time
that its writes take with what they take before the readers come and after they have gone.
"""

import argparse
import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from sluice_core.testing.tokens import Tokens
from tests.integration.platforms import Serve
from tests.load import _logs
from tests.load._platform import Platform, started
from tests.load._programs import memory, sampled
from tests.load._report import AtLeast, AtMost, Report
from tests.load._writer import percentile, write_steadily

READERS = 32
PACE = 1000
"""Bytes a second of each reader."""

POOL = 8
MB = 1e6


class Readers:
    """Clients that are slower than any network."""

    def __init__(self) -> None:
        self.received = [0] * READERS

    async def read(self, url: str, path: str, at: int) -> None:
        """Read a list at `PACE` until cancelled.

        Raises
        ------
        RuntimeError
            The list ended or was refused.
        """
        loop = asyncio.get_running_loop()
        address = urlsplit(url)
        with socket.socket() as connection:
            connection.setblocking(False)
            # Else the kernel would take megabytes from the server at once, and the reader would not be slow.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(connection, (address.hostname, address.port))
            await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            due = loop.time()
            while True:
                piece = await loop.sock_recv(connection, PACE)
                if not piece or (self.received[at] == 0 and b" 200 " not in piece[:20]):
                    raise RuntimeError(f"GET {path} ended with {piece[:100]!r}")
                self.received[at] += len(piece)
                due = max(due + len(piece) / PACE, loop.time())
                await asyncio.sleep(due - loop.time())


def record(number: int) -> bytes:
    """Make a log record, as the loggers of agents send it."""
    return json.dumps(
        {
            "app_name": "bench",
            "instance_name": f"bench-{number % 8}",
            "timestamp": "2026-08-01T12:00:00.123456",
            "level": 20,
            "levelname": "INFO",
            "message": f"Registered STF file swf.{number}.stf with the monitor",
            "module": "data_agent",
            "funcname": "register",
            "lineno": 120,
            "process": 4242,
            "thread": 140000000000001,
        }
    ).encode()


@contextlib.contextmanager
def connections(platform: Platform, database: str) -> Iterator[tuple[list[float], list[float]]]:
    """Count the service's connections while a block runs: those that exist, and those that do something."""
    statement = (
        "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity "
        "WHERE application_name = 'sluice-logs' AND backend_type = 'client backend'"
    )
    busy: list[float] = []
    with contextlib.closing(platform.connect(database)) as connection, connection.cursor() as cursor:

        def count() -> float:
            cursor.execute(statement)
            every, working = cursor.fetchone() or (0, 0)
            busy.append(working)
            return float(every)

        with sampled(count, every=0.1) as found:
            yield found, busy


async def measure(report: Report, platform: Platform, logs: Serve, *, rate: float, seconds: float) -> None:
    """Write alone, beside the readers, and alone again."""

    async def write(time: float) -> list[float]:
        return await write_steadily(logs.http, "/api/logs/", record, rate=rate, seconds=time)

    await write(2)
    readers = Readers()
    before = await write(seconds / 2)
    with sampled(partial(memory, logs.pid)) as sizes, connections(platform, "sluice_logs") as (held, busy):
        reading = [asyncio.create_task(readers.read(logs.http, "/api/logs/", at)) for at in range(READERS)]
        beside = await write(seconds)
        for task in reading:
            if task.done():
                await task
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    after = await write(seconds / 2)
    alone = percentile(before + after, 99)
    third = len(sizes) // 3
    report.measured |= {
        "writes_per_s": rate,
        "p50_alone_ms": percentile(before + after, 50) * 1e3,
        "p50_beside_readers_ms": percentile(beside, 50) * 1e3,
        "p99_alone_before_ms": percentile(before, 99) * 1e3,
        "p99_alone_after_ms": percentile(after, 99) * 1e3,
        "p99_beside_readers_ms": percentile(beside, 99) * 1e3,
        "reader_least_kb_per_s": min(readers.received) / seconds / 1e3,
        "connections_most": max(held),
        "connections_working_mean": sum(busy) / len(busy),
        "memory_before_mb": sizes[0] / MB,
        "memory_rise_mb": (max(sizes) - sizes[0]) / MB,
        "memory_growth_mb": (max(sizes[-third:]) - max(sizes[:third])) / MB,
    }
    report.ratios["p99_beside_readers"] = percentile(beside, 99) / alone


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the readers read (default: 60)")
    parser.add_argument("--rows", type=int, default=_logs.RECORDS, help="records in the list (default: a million)")
    parser.add_argument("--rate", type=float, default=100, help="writes a second (default: 100)")
    given = parser.parse_args()
    report = Report(
        "readers",
        {
            "p99_beside_readers": AtMost(2),
            "connections_most": AtMost(POOL),
            # A megabyte a reader, and nothing more however long they take.
            "memory_rise_mb": AtMost(READERS),
            "memory_growth_mb": AtMost(2),
            # What says that they were reading at all, and not stuck.
            "reader_least_kb_per_s": AtLeast(0.9),
        },
    )
    with started() as platform:
        database = platform.database("sluice_logs", "sluice_logs")
        print(f"filling the log table with {given.rows:,} records ...", flush=True)
        _logs.fill(platform, "sluice_logs", given.rows)
        asyncio.run(Tokens().publish(platform.nats_url))
        with platform.service("logs", database, pool_size=str(POOL)) as logs:
            asyncio.run(measure(report, platform, logs, rate=given.rate, seconds=given.seconds))
    report.show()


if __name__ == "__main__":
    main()
