"""Metrics: no gaps on dashboards, no series for every guess of a scanner."""

from prometheus_client import CollectorRegistry, generate_latest

from sluice_core.bus import Bus, ConsumerState
from sluice_core.metrics import BusMetrics, LabelledRegistries, Metrics


def text(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_a_declared_route_shows_zero_before_its_first_request() -> None:
    metrics = Metrics()
    metrics.declare("/api/logs/", ["GET", "POST"])
    assert 'sluice_http_requests_total{method="POST",route="/api/logs/",status="201"} 0.0' in text(metrics)
    assert 'sluice_http_requests_total{method="GET",route="/api/logs/",status="500"} 0.0' in text(metrics)


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.route("/api/logs/", "POST", 201).done(0.004)
    assert 'sluice_http_requests_total{method="POST",route="/api/logs/",status="201"} 3.0' in text(metrics)
    assert 'sluice_http_request_duration_seconds_bucket{le="0.005",method="POST",route="/api/logs/"} 3.0' in text(
        metrics
    )


def test_invented_methods_share_one_series() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics.route("other", f"M{n}", 405).done(0.1)
    assert 'sluice_http_requests_total{method="other",route="other",status="405"} 100.0' in text(metrics)
    assert "M1" not in text(metrics)


def test_a_gauge_is_read_when_it_is_scraped() -> None:
    metrics = Metrics()
    value = 1.0
    metrics.gauge("sluice_test_level", "A level.", lambda: value)
    value = 5.0
    assert "sluice_test_level 5.0" in text(metrics)


def test_services_in_one_process_are_told_apart_by_a_label() -> None:
    one, two = Metrics(), Metrics()
    one.route("/a/", "GET", 200).done(0.1)
    two.route("/a/", "GET", 200).done(0.1)
    together = CollectorRegistry()
    together.register(LabelledRegistries({"one": one.registry, "two": two.registry}))
    exposition = generate_latest(together).decode()
    assert exposition.count("# TYPE sluice_http_requests_total counter") == 1
    for service in ("one", "two"):
        line = f'sluice_http_requests_total{{method="GET",route="/a/",service="{service}",status="200"}} 1.0'
        assert line in exposition


def test_the_bus_and_its_consumers_are_read_when_scraped() -> None:
    metrics, bus = Metrics(), Bus("nats://127.0.0.1:1", name="test")
    metrics.registry.register(BusMetrics(bus))
    bus.consumers["logs"] = ConsumerState(waiting=7, handled=40, parked=1)
    bus.dropped = 3
    found = text(metrics)
    assert "sluice_bus_connected 0.0" in found
    assert "sluice_bus_dropped_total 3.0" in found
    assert 'sluice_consumer_waiting{consumer="logs"} 7.0' in found
    assert 'sluice_consumer_parked_total{consumer="logs"} 1.0' in found
