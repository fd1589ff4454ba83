"""What the door of this process does, for Prometheus."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice_stream.door.door import Door

__all__ = ["DoorMetrics"]

# Queues that have a line of their own; anybody may make one.
MOST = 100


class DoorMetrics(Collector):
    """The state of a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def collect(self) -> Iterator[Metric]:
        """Return the families, read from the door now."""
        door, traffic, counts = self._door, self._door.traffic, self._door.counts
        subscriptions = sum(len(connection.subscriptions) for connection in door.connections)
        unread = sum(connection.backlog for connection in door.connections)
        yield GaugeMetricFamily("sluice_stomp_active", "Whether this process has the STOMP door.", door.state.active)
        yield GaugeMetricFamily("sluice_stomp_connections", "Clients.", len(door.connections))
        yield GaugeMetricFamily("sluice_stomp_subscriptions", "Subscriptions of all clients.", subscriptions)
        yield GaugeMetricFamily("sluice_stomp_unread_bytes", "Bytes that wait for slow clients.", unread)
        yield GaugeMetricFamily("sluice_stomp_stalled", "Whether what clients send waits.", bool(door.exchange.stalled))
        logins = CounterMetricFamily("sluice_stomp_logins", "Logins, by what came of them.", labels=("outcome",))
        logins.add_metric(("good",), traffic.connections)
        logins.add_metric(("refused",), traffic.refused)
        yield logins
        frames = CounterMetricFamily("sluice_stomp_frames", "Frames of all clients.", labels=("direction",))
        frames.add_metric(("received",), traffic.received)
        frames.add_metric(("sent",), traffic.sent)
        yield frames
        yield CounterMetricFamily("sluice_stomp_messages", "Messages that clients sent.", traffic.sent_messages)
        ended = CounterMetricFamily("sluice_stomp_ended", "Connections that we ended, by the reason.", labels=("why",))
        for why, count in (("error", traffic.errors), ("slow", traffic.slow), ("silent", traffic.silent)):
            ended.add_metric((why,), count)
        yield ended
        queued = CounterMetricFamily(
            "sluice_stomp_queue_messages", "Messages of queues, by what became of them.", labels=("outcome",)
        )
        for outcome in ("delivered", "acknowledged", "redelivered", "expired", "parked"):
            queued.add_metric((outcome,), getattr(counts, outcome))
        yield queued
        yield CounterMetricFamily(
            "sluice_stomp_durable_lost", "Messages that durable subscriptions did not get.", counts.lost
        )
        depths = GaugeMetricFamily(
            "sluice_stomp_queue_depth", "Messages that nobody has acknowledged.", labels=("queue",)
        )
        for queue, count in self._depths():
            depths.add_metric((queue,), count)
        yield depths

    def _depths(self) -> list[tuple[str, int]]:
        """Return the fullest queues, over all namespaces."""
        by_queue: dict[str, int] = {}
        for destination, count in self._door.depths.queues.items():
            by_queue[destination.queue] = by_queue.get(destination.queue, 0) + count
        return sorted(by_queue.items(), key=lambda each: each[1], reverse=True)[:MOST]
