"""What the line of records has done, and how much waits in it."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice_logs.writer import Writer

__all__ = ["LineMetrics"]


class LineMetrics(Collector):
    """The writer's numbers; what was parked is the consumer's (``sluice_consumer_parked``)."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Return the families, read from the writer now."""
        line = self._writer
        yield GaugeMetricFamily("sluice_logs_waiting_bytes", "Bytes of records without an answer yet.", line.waiting)
        yield GaugeMetricFamily("sluice_logs_waiting_records", "Records without an answer yet.", line.waiting_records)
        yield CounterMetricFamily("sluice_logs_batches", "Transactions that stored records.", line.batches)
        records = CounterMetricFamily("sluice_logs_records", "Records by what became of them.", labels=("outcome",))
        records.add_metric(("stored",), line.stored)
        records.add_metric(("aside",), line.aside)
        records.add_metric(("refused",), line.refused)
        records.add_metric(("full",), line.full)
        yield records
