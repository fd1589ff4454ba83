"""A whole run at a hundred times its speed: a platform, a broker and all agents of ``sluice simulate`` on one machine.

What agents cannot do in time they do later, so the targets are that all is done and that counters are the rows.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sluice_core.testing import activemq, eventually
from sluice_core.testing.activemq import PASSWORD, USER
from sluice_simulator.bus import Address
from sluice_simulator.plan import Plan
from sluice_simulator.roles.agent import Site
from sluice_simulator.simulation import Options, Simulation, Summary
from tests.integration.platforms import Up, samples
from tests.load._platform import end_properly
from tests.load._report import AtLeast, AtMost, Report

TARGETS: Mapping[str, AtLeast | AtMost] = {"as it should be": AtLeast(1)}


def play(broker: activemq.Broker, folder: Path, plan: Plan, options: Options, *, batches: bool) -> Summary:
    """Play a run on a platform of its own."""
    host, port = broker.address
    with Up(folder / "data", ACTIVEMQ_HOST=host, ACTIVEMQ_PORT=str(port), ACTIVEMQ_PASSWORD=PASSWORD) as up:
        eventually(lambda: list(samples(up.admin, "sluice_bridge_connected").values()) == [1.0], 30)
        site = Site(up.http, up.token, Address(host, port, USER, PASSWORD), "bench", "ada", batches)
        return Simulation(site, plan, options).run()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stfs", type=int, default=1000, help="STF files (default: 1000)")
    parser.add_argument("--speed", type=float, default=100, help="simulated seconds in a real one (default: 100)")
    parser.add_argument("--slices", type=int, help="of each TF file (default: about 11)")
    parser.add_argument("--workers", action="store_true", help="let workers answer the slices")
    parser.add_argument("--one-by-one", action="store_true", help="no batches, as real agents have it")
    given = parser.parse_args()
    end_properly()
    report = Report("simulation", TARGETS)
    plan = Plan(stfs=given.stfs, speed=given.speed, slices=given.slices)
    with activemq.here() as broker, tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        if broker is None:
            report.doubts.append(activemq.ABSENT)
        else:
            options = Options(workers=given.workers, seed=1)
            summary = play(broker, Path(folder), plan, options, batches=not given.one_by_one)
            report.measured |= {**summary.counts, "seconds": summary.seconds, "as it should be": summary.ok}
            for problem in (*summary.problems, *(what for what, ok in summary.checks.items() if not ok)):
                print(problem)
    report.show()


if __name__ == "__main__":
    main()
