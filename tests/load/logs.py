"""How fast log records are taken, and found among two million.

Single records are compared with a bare ASGI application that answers what it gets, and with commits of one row on one
connection; batches with a COPY of the same rows into the same table with all its indexes. Each pair is measured in
turns, and a ratio is the median of its turns', so that whatever else the machine does meets both alike. What is asked
of the many records is timed by itself.
"""

import argparse
import io
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

import requests

from sluice_client import LogHandler
from sluice_logs.days import utc_now
from sluice_logs.records import Reader
from tests.integration.platforms import Serve
from tests.load import _wrk
from tests.load._history import APP, COMMON, INSTANCE, RARE, fill
from tests.load._lists import read
from tests.load._platform import Platform, started
from tests.load._programs import cpu, memory, sampled
from tests.load._report import AtLeast, AtMost, Report
from tests.load._wrk import Requests

PATH = "/api/logs/"
BATCH = 1000
# Different bodies of a batch that are sent in turns.
BODIES = 20
# Ids far behind those that the service gives.
OTHERS = 10**15

# What the agents' library posts (swf-clients.md, section 6).
RECORD = {
    "app_name": "base_agent",
    "instance_name": "processing-agent-ada-7",
    "timestamp": "2026-05-05T10:00:00.123456",
    "level": 20,
    "levelname": "INFO",
    "message": "Processed STF file swf.20260801.<i>.stf and sent it on to the next agent",
    "module": "processing_agent",
    "funcname": "on_message",
    "lineno": 311,
    "process": 4711,
    "thread": 140713671113600,
    "extra_data": {"execution_id": "fast-ada-0001", "run_id": 100010, "username": "ada"},
}
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "one_16": AtLeast(0.18),
    "one_64": AtLeast(0.35),
    "one_64_to_commits": AtLeast(1.0),
    "batches": AtLeast(0.50),
    "page_ms": AtMost(20),
    "summary_ms": AtMost(150),
    "search_ms": AtMost(500),
    "list_first_byte_ms": AtMost(50),
    "list_memory_mb": AtMost(50),
    "handler_us": AtMost(20),
}


class Turn(NamedTuple):
    """Rates of two ways, in records a second, and what each record cost the service in processor seconds."""

    ours: float
    theirs: float
    cost: float


class Bench:
    """One run.

    Parameters
    ----------
    rounds
        How often each pair is measured.
    seconds
        Of each load.
    """

    def __init__(self, report: Report, logs: Serve, *, rounds: int, seconds: int) -> None:
        self.report = report
        self.seconds = seconds
        self._logs = logs
        self._rounds = rounds
        self._sent = 1

    def compare(self, name: str, theirs: Callable[[], float], what: Requests, connections: int, size: int = 1) -> None:
        """Measure the service and something else in turns, and note rates and ratio.

        Parameters
        ----------
        theirs
            Measures the other once; records a second.
        size
            Records of one request.
        """
        turns = [self._turn(name, theirs, what, connections, size) for _ in range(self._rounds)]
        self.report.measured[f"{name}_per_s"] = statistics.median(each.ours for each in turns)
        self.report.measured[f"{name}_other_per_s"] = statistics.median(each.theirs for each in turns)
        self.report.measured[f"{name}_cpu_us"] = statistics.median(each.cost for each in turns) * 1e6
        self.report.ratios[name] = statistics.median(each.ours / each.theirs for each in turns)

    def send(self, program: Serve, what: Requests, connections: int) -> _wrk.Load:
        """Send as much as is answered; doubt it when the client was the slowest part."""
        load = _wrk.send(program.http, replace(what, first=self._sent), connections=connections, seconds=self.seconds)
        self._sent += 1_000_000
        if load.saturated:
            self.report.doubts.append(f"{what.path}: wrk itself was busy, so the server may be faster than measured.")
        return load

    def _turn(self, name: str, theirs: Callable[[], float], what: Requests, connections: int, size: int) -> Turn:
        other = theirs()
        used = cpu(self._logs.pid)
        load = self.send(self._logs, what, connections)
        cost = (cpu(self._logs.pid) - used) / (load.requests * size)
        print(f"  {name}: {load.rate * size:,.0f}/s to {other:,.0f}/s", flush=True)
        return Turn(load.rate * size, other, cost)


def one_by_one(bench: Bench, echo: Serve, platform: Platform, database: str) -> None:
    """Measure single records, each answered after its commit."""
    what = Requests("POST", PATH, json.dumps(RECORD), JSON)
    for connections in (16, 64):
        other = partial(_rate, bench, echo, what, connections)
        bench.compare(f"one_{connections}", other, what, connections)
    bench.compare("one_64_to_commits", lambda: commits(platform, database, bench.seconds), what, 64)


def _rate(bench: Bench, program: Serve, what: Requests, connections: int) -> float:
    return bench.send(program, what, connections).rate


def batches(bench: Bench, platform: Platform, database: str) -> None:
    """Measure batches of a thousand records, two at a time."""
    texts = [json.dumps(RECORD).replace("<i>", f"<n>.{number}") for number in range(BATCH)]
    what = Requests("POST", PATH, "\n".join(texts), NDJSON, rotate=BODIES)
    copies = Copies(platform, database, texts)
    bench.compare("batches", copies.once, what, 2, BATCH)


class Copies:
    """A bare COPY of the rows that the batches have."""

    def __init__(self, platform: Platform, database: str, texts: list[str]) -> None:
        reader = Reader(UTC)
        bodies = (text.replace("<n>", str(n)).encode() for n in range(1, BODIES + 1) for text in texts)
        self._records = [reader.read(body) for body in bodies]
        self._platform = platform
        self._database = database
        self._first = OTHERS

    def once(self) -> float:
        """Copy them all in one transaction; rows a second."""
        day = utc_now().date()
        lines = b"".join(record.line(self._first + at, day) for at, record in enumerate(self._records))
        self._first += len(self._records)
        with closing(self._platform.connect(self._database)) as connection, connection.cursor() as cursor:
            began = time.perf_counter()
            cursor.copy_expert("COPY log_record FROM STDIN", io.BytesIO(lines))
            return len(self._records) / (time.perf_counter() - began)


def commits(platform: Platform, database: str, seconds: float) -> float:
    """Insert rows one a transaction on one connection, as fast as PostgreSQL answers; commits a second."""
    platform.sql(database, "CREATE TABLE IF NOT EXISTS one_row (n bigint)")
    with closing(platform.connect(database)) as connection, connection.cursor() as cursor:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            cursor.execute("INSERT INTO one_row VALUES (1)")
            count += 1
        return count / (time.perf_counter() - began)


def questions(report: Report, logs: Serve, rounds: int) -> None:
    """Measure what people ask of two million records; medians in milliseconds."""
    session = requests.Session()

    def ask(name: str, path: str, before: Callable[[], object] = lambda: None) -> float:
        took = []
        for _ in range(4 * rounds):
            before()
            began = time.perf_counter()
            answer = session.get(f"{logs.http}{path}", timeout=60)
            took.append(1000 * (time.perf_counter() - began))
            assert answer.status_code == 200, answer.text
        print(f"  {name}: {statistics.median(took):,.1f} ms, at most {max(took):,.1f}", flush=True)
        return statistics.median(took)

    measured = report.measured
    measured["page_ms"] = ask("page", f"{PATH}?app_name={APP}&instance_name={INSTANCE}&limit=100")
    # A record before each, so that no kept summary is good enough.
    store = partial(session.post, f"{logs.http}{PATH}", json=RECORD)
    measured["summary_ms"] = ask("summary", f"{PATH}summary/", store)
    day = quote((utc_now() - timedelta(days=1)).isoformat())
    window = f"start_time={day}&limit=100"
    words = (COMMON, RARE, "nowhere", f"{COMMON} {RARE}")
    measured["search_ms"] = max(ask(f"search {word!r}", f"{PATH}?search={quote(word)}&{window}") for word in words)
    measured["execution_ms"] = ask("execution", f"{PATH}?execution_id=fast-ada-7&limit=100")
    measured["histogram_ms"] = ask("histogram of a day", f"{PATH}histogram/")
    firsts = [read(logs.http, f"{PATH}?app_name={APP}").first for _ in range(rounds)]
    with sampled(partial(memory, logs.pid)) as sizes:
        whole = read(logs.http, PATH)
    firsts.append(whole.first)
    print(f"  list: {whole.rows:,} rows in {whole.seconds:.1f} s", flush=True)
    measured["list_first_byte_ms"] = 1000 * statistics.median(firsts)
    measured["list_memory_mb"] = (max(sizes) - sizes[0]) / 1e6


def handler(report: Report, logs: Serve, rounds: int) -> None:
    """Measure what a logged record costs the program, while a service takes it; microseconds."""
    made = LogHandler(logs.http, "bench", "bench-1")
    log = logging.Logger("bench", logging.INFO)
    log.addHandler(made)
    took = []
    for _ in range(2 * rounds):
        began = time.perf_counter()
        for number in range(2000):
            log.info("Processed STF file %d and sent it on to the next agent", number)
        took.append((time.perf_counter() - began) / 2000 * 1e6)
        made.flush()
    made.close()
    assert made.dropped == made.rejected == 0
    report.measured["handler_us"] = statistics.median(took)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is measured (default: 5)")
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default: 2)")
    parser.add_argument("--only", choices=("one", "batches", "questions", "handler"), help="a part of it")
    given = parser.parse_args()
    report = Report("logs", TARGETS)
    if not _wrk.available():
        report.doubts.append(_wrk.MISSING)
        return report.show()
    with started() as platform:
        url = platform.database("sluice_logs", "sluice_logs")
        with platform.service("logs", url) as logs, platform.baseline("echo") as echo:
            bench = Bench(report, logs, rounds=given.rounds, seconds=given.seconds)
            if given.only in (None, "one"):
                one_by_one(bench, echo, platform, "sluice_logs")
            if given.only in (None, "batches"):
                batches(bench, platform, "sluice_logs")
            if given.only in (None, "handler"):
                handler(report, logs, given.rounds)
        if given.only in (None, "questions"):
            url = platform.database("sluice_asked", "sluice_logs")
            fill(platform, "sluice_asked")
            with platform.service("logs", url) as logs:
                questions(report, logs, given.rounds)
    report.show()


if __name__ == "__main__":
    main()
