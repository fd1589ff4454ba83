"""What one service counts, in a registry of its own, so that several services fit in one process."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from sluice_core.audit import Trail
    from sluice_core.bus import Bus
    from sluice_core.outbox import Relay

__all__ = ["AuditMetrics", "BusMetrics", "LabelledRegistries", "Metrics", "RouteMetrics"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BOUNDS = tuple(map(floatToGoString, (*BUCKETS, inf)))
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Label of everything that belongs to no declared route; raw paths would make a series for every scanner's guess."""

_EXPECTED = {"GET": 200, "HEAD": 200, "OPTIONS": 200, "PUT": 200, "PATCH": 200, "POST": 201, "DELETE": 204}


class _Durations:
    """How long the requests of one route and method took."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)


class RouteMetrics:
    """Requests of one route, method and status.

    Counted in plain numbers, by the event loop alone: the locks of prometheus-client cost a tenth of a small request.
    """

    __slots__ = ("_durations", "count")

    def __init__(self, durations: _Durations) -> None:
        self._durations = durations
        self.count = 0

    def done(self, seconds: float) -> None:
        """Count an answered request that took so long."""
        self.count += 1
        durations = self._durations
        durations.seconds += seconds
        durations.buckets[bisect_left(BUCKETS, seconds)] += 1

    def started(self) -> None:
        """Count an answer that is an endless stream, which has no duration."""
        self.count += 1


class _Requests(Collector):
    """All routes of one service."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str, int], RouteMetrics] = {}
        self._durations: dict[tuple[str, str], _Durations] = {}

    def add(self, route: str, method: str, status: int) -> RouteMetrics:
        durations = self._durations.setdefault((route, method), _Durations())
        return self.routes.setdefault((route, method, status), RouteMetrics(durations))

    def collect(self) -> Iterator[Metric]:
        labels = ("route", "method", "status")
        count = CounterMetricFamily("sluice_http_requests", "Requests answered.", labels=labels)
        for (route, method, status), found in list(self.routes.items()):
            count.add_metric((route, method, str(status)), found.count)
        seconds = HistogramMetricFamily(
            "sluice_http_request_duration_seconds", "Time until the last byte of the answer.", labels=labels[:2]
        )
        for key, durations in list(self._durations.items()):
            total = list(accumulate(durations.buckets))
            seconds.add_metric(key, list(zip(BOUNDS, total, strict=True)), durations.seconds)
        yield from (count, seconds)


class Metrics:
    """The Prometheus metrics of one service.

    A service adds its own with prometheus-client on `registry`; names begin with ``sluice_``.

    Attributes
    ----------
    registry
        Holds the metrics of this service alone.
    in_flight
        Requests being answered now; changed by the envelope, in the event loop only.
    streams
        Endless answers (SSE) open now; changed by the envelope.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self.streams = 0
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.gauge("sluice_http_requests_in_flight", "Requests being answered.", lambda: self.in_flight)
        self.gauge("sluice_http_streams_open", "Endless answers (SSE) being sent.", lambda: self.streams)
        self.declare(OTHER, METHODS)

    def declare(self, route: str, methods: Iterable[str]) -> None:
        """Create the series of a route, so that a dashboard shows 0 instead of a gap."""
        for method in METHODS.intersection(methods):
            for status in (_EXPECTED[method], 500, 503):
                self.route(route, method, status)

    def route(self, route: str, method: str, status: int) -> RouteMetrics:
        """Return what counts requests with this route template, method and status."""
        found = self._requests.routes.get((route, method, status))
        if found is None:
            found = self._requests.add(route, method if method in METHODS else OTHER, status)
        return found

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when it is scraped."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def outbox(self, relay: "Relay") -> None:
        """Add how much waits in a service's outbox, and for how long."""
        self.gauge("sluice_outbox_waiting", "Events that wait in the outbox.", lambda: relay.waiting)
        self.gauge("sluice_outbox_lag_seconds", "Age of the oldest event that waits.", relay.lag_seconds)


class BusMetrics(Collector):
    """What the bus of a service and its consumers have counted."""

    def __init__(self, bus: "Bus") -> None:
        self._bus = bus

    def collect(self) -> Iterator[Metric]:
        """Return the families, read from the bus now."""
        bus = self._bus
        yield GaugeMetricFamily("sluice_bus_connected", "Whether NATS is connected.", bus.connected)
        yield GaugeMetricFamily("sluice_bus_pending", "Stored messages without an answer yet.", bus.pending)
        yield CounterMetricFamily("sluice_bus_published", "Messages handed to NATS.", bus.published)
        yield CounterMetricFamily("sluice_bus_dropped", "Best-effort messages that were thrown away.", bus.dropped)
        yield CounterMetricFamily("sluice_bus_refused", "Messages that a stream did not take.", bus.refused)
        waiting = GaugeMetricFamily("sluice_consumer_waiting", "Messages not delivered yet.", labels=("consumer",))
        handled = CounterMetricFamily("sluice_consumer_handled", "Messages processed.", labels=("consumer",))
        failed = CounterMetricFamily("sluice_consumer_failed", "Deliveries to be repeated.", labels=("consumer",))
        parked = CounterMetricFamily("sluice_consumer_parked", "Messages put aside in DLQ.", labels=("consumer",))
        for name, state in bus.consumers.items():
            waiting.add_metric((name,), state.waiting)
            handled.add_metric((name,), state.handled)
            failed.add_metric((name,), state.failed)
            parked.add_metric((name,), state.parked)
        yield from (waiting, handled, failed, parked)


class AuditMetrics(Collector):
    """What became of the audit records of a service."""

    def __init__(self, trail: "Trail") -> None:
        self._trail = trail

    def collect(self) -> Iterator[Metric]:
        """Return the families, read from the trail now."""
        yield GaugeMetricFamily("sluice_audit_waiting", "Audit records not stored yet.", self._trail.waiting)
        yield CounterMetricFamily("sluice_audit_dropped", "Audit records thrown away.", self._trail.dropped)


class LabelledRegistries(Collector):
    """The metrics of several services as one exposition, each sample with the label ``service``."""

    def __init__(self, registries: Mapping[str, CollectorRegistry]) -> None:
        self._registries = registries

    def collect(self) -> Iterable[Metric]:
        """Return all families, those of the same name merged."""
        families: dict[str, Metric] = {}
        for service, registry in self._registries.items():
            for family in registry.collect():
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                merged.samples.extend(
                    sample._replace(labels={"service": service, **sample.labels}) for sample in family.samples
                )
        return families.values()
