"""What the bridge of this process does, for Prometheus."""

import time
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice_stream.bridge.bridge import BridgeState
from sluice_stream.intake import Intake

__all__ = ["BridgeMetrics", "IntakeMetrics"]


class IntakeMetrics(Collector):
    """What came in by any way."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        """Return the family, read now."""
        taken = CounterMetricFamily(
            "sluice_messages_taken", "Bodies that came in, by what they were.", labels=("kind",)
        )
        for kind, count in self._intake.counts.items():
            taken.add_metric((kind,), count)
        yield taken


class BridgeMetrics(Collector):
    """The state of a bridge."""

    def __init__(self, state: BridgeState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Return the families, read from the state now."""
        state = self._state
        yield GaugeMetricFamily("sluice_bridge_active", "Whether this process has the bridge.", state.active)
        yield GaugeMetricFamily("sluice_bridge_connected", "Whether it listens to the broker.", state.connected)
        yield GaugeMetricFamily("sluice_bridge_stalled", "Whether messages wait at the broker.", bool(state.stalled))
        yield CounterMetricFamily("sluice_bridge_connections", "Connections to the broker made.", state.connections)
        yield CounterMetricFamily("sluice_bridge_received", "Messages that the broker delivered.", state.received)
        yield CounterMetricFamily("sluice_bridge_stored", "Of these, stored and acknowledged.", state.stored)
        yield CounterMetricFamily("sluice_bridge_sent", "Messages that the broker has confirmed.", state.sent)
        if state.round_trip is not None:
            age = time.monotonic() - state.heard
            yield GaugeMetricFamily("sluice_bridge_round_trip_seconds", "Of the last heartbeat.", state.round_trip)
            yield GaugeMetricFamily("sluice_bridge_round_trip_age_seconds", "Since it came back.", age)
