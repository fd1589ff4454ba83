"""The admin port says what a probe, a dashboard and an operator ask."""

import pytest
from starlette.testclient import TestClient

from sluice_core.health import Health
from sluice_core.http.admin import Observed, admin_app, combined_admin_app
from sluice_core.metrics import Metrics


def observed(*, ok: bool = True) -> Observed:
    health = Health()
    health.add("bus", lambda: (ok, "" if ok else "away"))
    return Observed(health, Metrics())


def test_one_service_tells_its_life_readiness_and_metrics() -> None:
    http = TestClient(admin_app(observed()))
    assert http.get("/healthz").json() == {"status": "alive"}
    assert http.get("/readyz").json() == {"status": "ready", "checks": {"bus": {"ok": True, "detail": ""}}}
    text = http.get("/metrics").text
    assert 'sluice_http_requests_total{method="GET",route="other",status="200"}' in text
    assert "process_resident_memory_bytes" in text


def test_a_service_that_is_not_ready_lives_all_the_same() -> None:
    http = TestClient(admin_app(observed(ok=False)))
    assert http.get("/readyz").status_code == 503
    assert http.get("/healthz").status_code == 200


def test_services_of_one_process_are_shown_together_and_alone() -> None:
    http = TestClient(combined_admin_app({"logs": observed(), "stream": observed(ok=False)}))
    together = http.get("/readyz")
    assert together.status_code == 503
    assert {name: each["status"] for name, each in together.json()["services"].items()} == {
        "logs": "ready",
        "stream": "not ready",
    }
    assert http.get("/logs/readyz").status_code == 200
    assert http.get("/stream/readyz").status_code == 503
    text = http.get("/metrics").text
    assert 'service="logs"' in text
    assert 'service="stream"' in text
    assert text.count("process_resident_memory_bytes ") == 3  # HELP, TYPE and one sample
    assert "service=" not in http.get("/logs/metrics").text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/readyz", 405)])
def test_anything_else_is_refused(method: str, path: str, status: int) -> None:
    assert TestClient(admin_app(observed())).request(method, path).status_code == status
