"""How fast messages get from a broker into the stream, and from there to those who follow them.

Each measurement is made in turns with its baseline, and a ratio is the median of its turns', so that whatever else the
machine does meets both alike.
"""

import argparse
from collections.abc import Mapping

from sluice_core.testing import activemq
from tests.load import _sse
from tests.load._bridge import bridge
from tests.load._platform import started
from tests.load._report import AtLeast, AtMost, Report

TARGETS: Mapping[str, AtLeast | AtMost] = {
    "bridge": AtLeast(0.50),
    **_sse.TARGETS,
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is measured (default: 5)")
    parser.add_argument("--messages", type=int, default=20_000, help="of each turn of the bridge (default: 20000)")
    parser.add_argument("--seconds", type=float, default=10, help="of each load of event streams (default: 10)")
    given = parser.parse_args()
    report = Report("stream", TARGETS)
    with started() as platform, activemq.here() as broker:
        if broker is None:
            report.doubts.append(activemq.ABSENT)
        else:
            bridge(report, platform, broker, rounds=given.rounds, messages=given.messages)
    # Servers of its own: its streams begin empty.
    with started() as platform:
        _sse.measure(report, platform, seconds=given.seconds)
    report.show()


if __name__ == "__main__":
    main()
