"""The event stream of one process: what it holds, and its tasks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice_core.http.sse import Readers
from sluice_core.service import Service
from sluice_stream.settings import Settings
from sluice_stream.sse.feed import Feed
from sluice_stream.sse.hub import Hub
from sluice_stream.sse.visits import Visits

__all__ = ["Sse"]


class Sse:
    """Everything behind ``/api/messages/stream/``.

    Attributes
    ----------
    hub, feed, readers, visits
        Who hands messages out, where they come from, who gets them, and their rows.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self.hub = Hub()
        self.feed = Feed(service.bus, self.hub, replay=settings.sse_replay)
        self.readers = Readers(heartbeat=settings.sse_heartbeat, beat=self.feed.beat, most=settings.sse_clients)
        self.visits = Visits(service.database, every=settings.sse_counters_every, retention=settings.sse_retention)
        service.metrics.registry.register(_SseMetrics(self.feed, self.readers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run its tasks; for the service's ``wire``."""
        tasks = self._service.supervisor
        tasks.spawn("messages", self.feed.run)
        tasks.spawn("readers", partial(self.readers.run, self._service.draining))
        tasks.spawn("subscribers", self.visits.run)
        try:
            yield
        finally:
            await self.visits.close()


class _SseMetrics(Collector):
    def __init__(self, feed: Feed, readers: Readers) -> None:
        self._feed = feed
        self._readers = readers

    def collect(self) -> list[Metric]:
        counters = (
            (
                "sluice_sse_events_sent",
                "Events for clients, also those dropped later.",
                self._readers.sent,
            ),
            ("sluice_sse_events_dropped", "Events that slow clients lost.", self._readers.dropped),
            ("sluice_sse_events_replayed", "Events that clients got after they came back.", self._feed.replayed),
        )
        return [CounterMetricFamily(name, text, value=value) for name, text, value in counters]
