"""How fast files are registered and found.

Create and PATCH of one STF file are compared with a handler written by hand that runs the same statements, a batch of
TF files with a bare COPY into the same table, and a lookup by name with a bare ASGI application that answers what it
gets. Each pair is measured in turns, and a ratio is the median of its turns'.
"""

import argparse
import contextlib
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from tests.integration.platforms import Serve
from tests.load import _files, _lists, _wrk
from tests.load._baselines import POOL
from tests.load._platform import Platform, started
from tests.load._programs import cpu, memory, sampled
from tests.load._report import AtLeast, AtMost, Report
from tests.load._wrk import Requests
from tests.load.registry import JSON, MB, Bench, Measured, Turns

ROWS = 900_000
BATCH = 10_000
CLIENTS = 16
# Numbers that one load may use up.
STEP = 20_000

NEW = {
    "run": 1,
    "stf_filename": "swf.102.<i>.stf",
    "file_size_bytes": 2_000_000_000,
    "machine_state": "run",
    "status": "registered",
    "metadata": {"created_by": "data-agent-ada-1", "substate": "physics", "sequence": 0},
}
CHANGE = {"status": "processed", "metadata": {"processed_by": "data-agent-ada-1"}}

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "create": AtLeast(0.60),
    "patch": AtLeast(0.60),
    "batch": AtLeast(0.30),
    "lookup_p99": AtMost(2),
    "list_memory_rise_mb": AtMost(50),
}


class FilesBench(Bench):
    """Sends numbers of files that are there; each is used once until all were."""

    rows = ROWS
    _next = 0

    def _send(self, program: Serve, what: Requests, size: int) -> Measured:
        used = cpu(program.pid)
        what = replace(what, first=_files.FIRST + self._next)
        self._next = (self._next + STEP) % max(STEP, self.rows - STEP)
        load = _wrk.send(program.http, what, connections=size, seconds=self._seconds)
        return Measured(load, (cpu(program.pid) - used) / load.requests)


def single_files(bench: FilesBench, runs: Serve, handwritten: Serve, headers: Mapping[str, str]) -> None:
    """Measure create and PATCH of one STF file."""
    path = "/api/stf-files/00000000-0000-4000-8000-000000<i>/"
    for name, what in (
        ("create", Requests("POST", "/api/stf-files/", json.dumps(NEW), headers)),
        ("patch", Requests("PATCH", path, json.dumps(CHANGE), headers)),
    ):
        turns = Turns(name)
        bench.compare(turns, runs, handwritten, what, what, CLIENTS)
        bench.note(f"handwritten_{name}", turns.theirs)
        bench.note(name, turns.ours)


def lookups(bench: FilesBench, runs: Serve, echo: Serve) -> None:
    """Measure how soon a file is found by its name."""
    what = Requests("GET", "/api/stf-files/?stf_filename=swf.101.<i>.stf")
    turns = Turns("lookup")
    bench.compare(turns, runs, echo, what, what, CLIENTS)
    del bench.report.ratios["lookup"]
    pairs = zip(turns.ours, turns.theirs, strict=True)
    bench.report.ratios["lookup_p99"] = statistics.median(ours.load.p99 / theirs.load.p99 for ours, theirs in pairs)
    bench.note("echo", turns.theirs)
    bench.note("lookup", turns.ours)


def batches(report: Report, platform: Platform, runs: Serve, rounds: int) -> None:
    """Measure a batch of TF files against a bare COPY."""
    ours, theirs = [], []
    for at in range(0, (rounds + 1) * BATCH, BATCH):
        theirs.append(_files.copied(platform, "handwritten_runs", at, BATCH))
        ours.append(_files.posted(runs.http, platform.token, at, BATCH))
        print(f"  batch: {ours[-1]:,.0f}/s to {theirs[-1]:,.0f}/s", flush=True)
    # The first of each warms up.
    report.ratios["batch"] = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    report.measured["batch_per_s"] = statistics.median(ours[1:])
    report.measured["copy_per_s"] = statistics.median(theirs[1:])


def whole_list(report: Report, runs: Serve, rows: int) -> None:
    """Measure what the list of all STF files costs the process that sends it."""
    row = b'{"file_id":'
    for _ in range(20):  # what the process needs once
        _lists.read(runs.http, "/api/stf-files/?status=failed", row=row)
    with sampled(partial(memory, runs.pid)) as sizes:
        found = _lists.read(runs.http, "/api/stf-files/", row=row)
    if found.rows < rows:
        raise RuntimeError(f"{rows} files were listed as {found.rows}")
    report.measured["list_memory_rise_mb"] = (max(sizes) - sizes[0]) / MB
    report.measured["list_rows_per_s"] = found.rows / found.seconds


@contextlib.contextmanager
def programs(platform: Platform, rows: int) -> Iterator[tuple[Serve, Serve, Serve]]:
    """Run a registry, which knows the token, the run service, the echo and the handler written by hand."""
    urls = {name: platform.database(name, "sluice_runs") for name in ("sluice_runs", "handwritten_runs")}
    known = platform.database("sluice_registry", "sluice_registry")
    for database in urls:
        print(f"  filling {database} with {rows:,} files ...", flush=True)
        _files.fill(platform, database, rows)
    with (
        platform.service("registry", known, admin_token=platform.token),
        platform.service("runs", urls["sluice_runs"], pool_size=str(POOL)) as runs,
        platform.baseline("echo") as echo,
        platform.baseline("handwritten_runs", urls["handwritten_runs"]) as handwritten,
    ):
        yield runs, echo, handwritten


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each pair is measured (default: 7)")
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default: 2)")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"files in the table (default: {ROWS})")
    parser.add_argument("--only", choices=("files", "lookups", "batches", "lists"), help="a part of it")
    given = parser.parse_args()
    report = Report("runs", TARGETS)
    bench = FilesBench(report, rounds=given.rounds, seconds=given.seconds)
    bench.rows = given.rows
    if not _wrk.available():
        report.doubts.append(_wrk.MISSING)
    with started() as platform, programs(platform, given.rows) as (runs, echo, handwritten):
        headers = {"Authorization": f"Token {platform.token}", **JSON}
        if _wrk.available() and given.only in (None, "files"):
            single_files(bench, runs, handwritten, headers)
        if _wrk.available() and given.only in (None, "lookups"):
            lookups(bench, runs, echo)
        if given.only in (None, "batches"):
            batches(report, platform, runs, given.rounds)
        if given.only in (None, "lists"):
            whole_list(report, runs, given.rows)
    report.show()


if __name__ == "__main__":
    main()
