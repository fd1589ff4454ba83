"""How fast agents are served.

Heartbeats are compared with a bare ASGI application that answers what it gets, on the same server; create, read and
PATCH of one agent with a handler written by hand that runs the same statements. Each pair is measured in turns, and a
ratio is the median of its turns', so that whatever else the machine does meets both alike.
"""

import argparse
import contextlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from tests.integration.platforms import Serve
from tests.load import _lists, _logs, _wrk
from tests.load._baselines import POOL
from tests.load._platform import Platform, started
from tests.load._programs import cpu, memory, sampled
from tests.load._report import AtLeast, AtMost, Report
from tests.load._wrk import Load, Requests

AGENTS = 200
LISTED = 10_000
MB = 1e6
JSON = {"Content-Type": "application/json"}

# What the base class of agents sends, and the enhanced ones add (swf-clients.md, section 5).
BEAT = {
    "instance_name": "processing-agent-ada-<n>",
    "agent_type": "processing",
    "status": "OK",
    "description": "PROCESSING agent processing-agent-ada-<n>. MQ: connected",
    "mq_connected": True,
    "pid": 41234,
    "hostname": "swf-testbed.example.org",
    "operational_state": "READY",
    "namespace": "ada-testing",
    "workflow_enabled": True,
    "current_stf_count": 0,
    "total_stf_processed": 12,
}
NEW = {
    "instance_name": "processing-agent-grace-<i>",
    "agent_type": "processing",
    "description": "PROCESSING agent processing-agent-grace-<i>. MQ: connected",
    "status": "OK",
    "pid": 41234,
    "hostname": "swf-testbed.example.org",
    "operational_state": "READY",
    "namespace": "ada-testing",
}
CHANGE = {"status": "OK", "operational_state": "PROCESSING", "pid": 0}

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "heartbeat_16": AtLeast(0.10),
    "heartbeat_64": AtLeast(0.20),
    "create": AtLeast(0.60),
    "read": AtLeast(0.60),
    "patch": AtLeast(0.60),
    "list_10000_first_byte_ms": AtMost(50),
    "list_1000000_memory_rise_mb": AtMost(30),
}


class Measured(NamedTuple):
    """A load, and the processor time that the program spent on each request, in seconds."""

    load: Load
    cost: float


@dataclass
class Turns:
    """Loads of two programs, in turns.

    Attributes
    ----------
    name
        Of the ratio.
    """

    name: str
    ours: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of our rate over theirs."""
        return statistics.median(a.load.rate / b.load.rate for a, b in zip(self.ours, self.theirs, strict=True))


class Bench:
    """One run.

    Parameters
    ----------
    rounds
        How often each pair is measured.
    seconds
        Of each load.
    """

    def __init__(self, report: Report, *, rounds: int, seconds: int) -> None:
        self.report = report
        self._rounds = rounds
        self._seconds = seconds
        self._sent = 1

    def compare(self, turns: Turns, ours: Serve, theirs: Serve, what: Requests, other: Requests, size: int) -> None:
        """Measure two programs in turns, ours second, and note rates and ratio."""
        for _ in range(self._rounds):
            turns.theirs.append(self._send(theirs, other, size))
            turns.ours.append(self._send(ours, what, size))
            print(
                f"  {turns.name}: {turns.ours[-1].load.rate:,.0f}/s to {turns.theirs[-1].load.rate:,.0f}/s", flush=True
            )
        self.report.ratios[turns.name] = turns.ratio

    def note(self, name: str, turns: Sequence[Measured]) -> None:
        """Note medians, and doubt them when the client was the slowest part."""
        self.report.measured[f"{name}_per_s"] = statistics.median(each.load.rate for each in turns)
        self.report.measured[f"{name}_p99_ms"] = statistics.median(each.load.p99 for each in turns) * 1e3
        self.report.measured[f"{name}_cpu_us"] = statistics.median(each.cost for each in turns) * 1e6
        if any(each.load.saturated for each in turns):
            self.report.doubts.append(f"{name}: wrk itself was busy, so the server may be faster than measured.")

    def _send(self, program: Serve, what: Requests, connections: int) -> Measured:
        used = cpu(program.pid)
        load = _wrk.send(program.http, replace(what, first=self._sent), connections=connections, seconds=self._seconds)
        self._sent += 1_000_000
        return Measured(load, (cpu(program.pid) - used) / load.requests)


def heartbeats(bench: Bench, registry: Serve, echo: Serve, headers: Mapping[str, str]) -> None:
    """Measure heartbeats of agents that change nothing, each answered after its commit."""
    beat = Requests("POST", "/api/systemagents/heartbeat/", json.dumps(BEAT), headers, rotate=AGENTS)
    for size in (16, 64):
        turns = Turns(f"heartbeat_{size}")
        bench.compare(turns, registry, echo, beat, beat, size)
        bench.note(f"echo_{size}", turns.theirs)
        bench.note(f"heartbeat_{size}", turns.ours)


def single_agents(bench: Bench, registry: Serve, handwritten: Serve, headers: Mapping[str, str]) -> None:
    """Measure create, read and PATCH of one agent, 16 at a time."""
    change = json.dumps(CHANGE).replace('"pid": 0', '"pid": <i>')
    for name, what in (
        ("create", Requests("POST", "/api/systemagents/", json.dumps(NEW), headers)),
        ("read", Requests("GET", "/api/systemagents/<n>/", None, headers, rotate=AGENTS)),
        ("patch", Requests("PATCH", "/api/systemagents/<n>/", change, headers, rotate=AGENTS)),
    ):
        turns = Turns(name)
        bench.compare(turns, registry, handwritten, what, what, 16)
        bench.note(f"handwritten_{name}", turns.theirs)
        bench.note(name, turns.ours)


def list_of_agents(report: Report, platform: Platform, database: str, registry: Serve) -> None:
    """Measure how soon the list of all agents begins."""
    platform.sql(database, "TRUNCATE system_agent RESTART IDENTITY")
    add_agents(platform, database, LISTED)
    reads = [_lists.read(registry.http, "/api/systemagents/") for _ in range(11)]
    if any(each.rows != LISTED for each in reads):
        raise RuntimeError(f"{LISTED} agents were listed as {[each.rows for each in reads]}")
    report.measured["list_10000_first_byte_ms"] = statistics.median(each.first for each in reads) * 1e3
    report.measured["list_10000_whole_ms"] = statistics.median(each.seconds for each in reads) * 1e3


def list_of_logs(report: Report, platform: Platform) -> None:
    """Measure what a list of a million log records costs the process that sends it."""
    print(f"  filling the log table with {_logs.RECORDS:,} records ...", flush=True)
    url = platform.database("sluice_logs", "sluice_logs")
    _logs.fill(platform, "sluice_logs")
    with platform.service("logs", url) as logs:
        for _ in range(20):  # what the process needs once
            _lists.read(logs.http, "/api/logs/?instance_name=agent-1-1&start_time=2000-01-01")
        with sampled(partial(memory, logs.pid)) as sizes:
            found = _lists.read(logs.http, "/api/logs/")
    if found.rows != _logs.RECORDS:
        raise RuntimeError(f"{_logs.RECORDS} records were listed as {found.rows}")
    report.measured["list_1000000_memory_rise_mb"] = (max(sizes) - sizes[0]) / MB
    report.measured["list_1000000_rows_per_s"] = found.rows / found.seconds


def add_agents(platform: Platform, database: str, count: int) -> None:
    """Store agents with the ids from 1 on."""
    platform.sql(
        database,
        f"""
        INSERT INTO system_agent (instance_name, agent_type, description, status, last_heartbeat, workflow_enabled,
            current_stf_count, total_stf_processed, pid, hostname, operational_state, namespace)
        SELECT 'processing-agent-ada-' || n, 'processing', 'PROCESSING agent. MQ: connected', 'OK', now(), true,
            0, 12, 41234, 'swf-testbed.example.org', 'READY', 'ada-testing'
        FROM generate_series(1, {count}) AS n
        """,
    )
    platform.sql(database, "VACUUM (ANALYZE) system_agent")


@contextlib.contextmanager
def programs(platform: Platform) -> Iterator[tuple[Serve, Serve, Serve]]:
    """Run the registry, the echo, and the handler written by hand with a database of its own."""
    urls = {name: platform.database(name, "sluice_registry") for name in ("sluice_registry", "handwritten")}
    for database in urls:
        add_agents(platform, database, AGENTS)
    with (
        # A sweep of the 10,000 agents that are listed, which send no heartbeats, is not what is measured.
        platform.service(
            "registry",
            urls["sluice_registry"],
            admin_token=platform.token,
            pool_size=str(POOL),
            stale_after="1d",
        ) as registry,
        platform.baseline("echo") as echo,
        platform.baseline("handwritten", urls["handwritten"]) as handwritten,
    ):
        yield registry, echo, handwritten


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each pair is measured (default: 7)")
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default: 2)")
    parser.add_argument("--only", choices=("heartbeats", "agents", "lists"), help="a part of it")
    given = parser.parse_args()
    report = Report("registry", TARGETS)
    bench = Bench(report, rounds=given.rounds, seconds=given.seconds)
    if not _wrk.available():
        report.doubts.append(_wrk.MISSING)
    with started() as platform:
        headers = {"Authorization": f"Token {platform.token}", **JSON}
        with programs(platform) as (registry, echo, handwritten):
            if _wrk.available() and given.only in (None, "heartbeats"):
                heartbeats(bench, registry, echo, headers)
            if _wrk.available() and given.only in (None, "agents"):
                single_agents(bench, registry, handwritten, headers)
            if given.only in (None, "lists"):
                list_of_agents(report, platform, "sluice_registry", registry)
        if given.only in (None, "lists"):
            list_of_logs(report, platform)
    report.show()


if __name__ == "__main__":
    main()
