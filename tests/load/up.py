"""How soon `sluice up` is there again, and how large it is.

The first start makes databases and a certificate; what is measured is every later one, from the start of the command
until all services are ready.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.integration.platforms import Up
from tests.load._platform import end_properly
from tests.load._programs import cpu, memory
from tests.load._report import AtMost, Report

MB = 1e6
BEATS = 500


def start(up: Up) -> float:
    """Return the seconds until it is ready."""
    began = time.monotonic()
    up.start()
    return time.monotonic() - began


def work(up: Up) -> None:
    """Do what an hour of a small installation is, so that what is needed once is there."""
    client = up.client()
    for number in range(BEATS):
        body = {"instance_name": f"agent-{number % 20}", "agent_type": "test", "current_stf_count": number}
        client.post("/api/systemagents/heartbeat/", body).raise_for_status()
    for path in ("/api/systemagents/", "/api/logs/", "/api/subscribers/", "/api/schema/"):
        client.get(path).raise_for_status()
    client.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often it is started again (default: 5)")
    given = parser.parse_args()
    report = Report("up", {"second_start_s": AtMost(5), "memory_mb": AtMost(250)})
    end_properly()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        began = time.monotonic()
        with Up(Path(folder, "data")) as up:
            report.measured["first_start_s"] = time.monotonic() - began
            starts, costs, stops, sizes = [], [], [], []
            for _ in range(given.rounds):
                stops.append(up.stop())
                starts.append(start(up))
                costs.append(cpu(up.pid))
                sizes.append(memory(up.pid))
                print(f"  ready after {starts[-1]:.1f} s with {sizes[-1] / MB:.0f} MB", flush=True)
            work(up)
            report.measured |= {
                "second_start_s": statistics.median(starts),
                "second_start_cpu_s": statistics.median(costs),
                "stop_s": statistics.median(stops),
                "memory_at_start_mb": statistics.median(sizes) / MB,
                "memory_mb": memory(up.pid) / MB,
            }
    report.show()


if __name__ == "__main__":
    main()
