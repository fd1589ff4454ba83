"""Each service alone, as in a container: `sluice serve` with a PostgreSQL and a nats-server that are not its own."""

from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import requests

from sluice_core.testing import NatsServer, eventually
from tests.integration.platforms import Client, Serve, Up, samples

LISTS = {
    "registry": "/api/systemagents/",
    "logs": "/api/logs/",
    "runs": "/api/runs/",
    "stream": "/api/subscribers/",
    "pcs": "/pcs/api/datasets/",
}
TOKEN = "0123456789abcdef0123456789abcdef01234567"


def test_every_installed_service_is_looked_at_here() -> None:
    assert set(LISTS) == {entry.name for entry in entry_points(group="sluice.services")}


@pytest.fixture
def registry(fresh_database: Callable[[str], str], nats_server: NatsServer, tmp_path: Path) -> Serve:
    """The registry, without which no service knows a key; not yet started."""
    return Serve(
        "registry",
        tmp_path,
        database_url=fresh_database("sluice_registry"),
        nats_url=nats_server.url(),
        SLUICE_REGISTRY_ADMIN_TOKEN=TOKEN,
    )


def test_services_alone_answer_are_ready_and_count_from_their_start(
    registry: Serve, fresh_database: Callable[[str], str], nats_server: NatsServer, tmp_path: Path
) -> None:
    others = [
        Serve(name, tmp_path, database_url=fresh_database(f"sluice_{name}"), nats_url=nats_server.url())
        for name in LISTS
        if name != "registry"
    ]
    with ExitStack() as running:
        for serve in (registry, *others):
            running.enter_context(serve)
        for serve in (registry, *others):
            eventually(serve.ready, 30)
            route = LISTS[serve.service]
            assert samples(serve.admin, "sluice_http_requests_total")[
                frozenset({"route": route, "method": "GET", "status": "200"}.items())
            ] == pytest.approx(0)
            assert Client(serve.http).get(route).json() == []
            # By NATS every service knows the token that the registry has.
            assert Client(serve.http, TOKEN).get(route).status_code == 200
            assert Client(serve.http, "bad").get(route).status_code == 403
            assert requests.get(f"{serve.admin}/healthz", timeout=10).json() == {"status": "alive"}
            assert Client(serve.http).get("/readyz").status_code == 404
            counted = samples(serve.admin, "sluice_http_requests_total")
            assert counted[frozenset({"route": route, "method": "GET", "status": "200"}.items())] == pytest.approx(2)
            assert counted[frozenset({"route": route, "method": "GET", "status": "403"}.items())] == pytest.approx(1)


def test_a_service_without_nats_starts_answers_and_says_that_it_is_not_ready(
    registry: Serve, nats_server: NatsServer
) -> None:
    nats_server.kill()
    with registry:
        assert Client(registry.http).get("/api/systemagents/").json() == []
        report = requests.get(f"{registry.admin}/readyz", timeout=10)
        assert report.status_code == 503
        assert not report.json()["checks"]["bus"]["ok"]
        nats_server.start()
        eventually(registry.ready, 30)


# All in one process


def test_up_is_ready_and_says_so_of_each_service(platform: Up) -> None:
    assert set(platform.services) == set(LISTS)
    report = requests.get(f"{platform.admin}/readyz", timeout=10)
    assert report.status_code == 200
    assert {name: each["status"] for name, each in report.json()["services"].items()} == dict.fromkeys(LISTS, "ready")
    for name in LISTS:
        alone = requests.get(f"{platform.admin}/{name}/readyz", timeout=10)
        assert set(alone.json()["checks"]) >= {"database", "bus", "keyring", "tasks"}


def test_the_series_of_every_route_are_there_before_its_first_request(platform: Up) -> None:
    found = samples(platform.admin, "sluice_http_requests_total")
    schema = platform.client().get("/api/schema/", params={"format": "json"}).json()
    declared = {
        (path, method.upper())
        for path, operations in schema["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    }
    of_errors = {
        (labels["route"], labels["method"])
        for labels in map(dict[str, str], found)
        if labels["status"] == "503" and labels["service"] in LISTS
    }
    assert len(declared) > 20
    assert {(path.replace(":namespace", ""), method) for path, method in of_errors} >= declared


def test_the_admin_port_shows_pool_bus_and_outbox(platform: Up) -> None:
    for metric in ("sluice_db_pool_size", "sluice_db_pool_in_use", "sluice_bus_connected"):
        assert {dict(labels)["service"] for labels in samples(platform.admin, metric)} == set(LISTS)
    for metric in ("sluice_outbox_waiting", "sluice_outbox_lag_seconds"):
        assert {dict(labels)["service"] for labels in samples(platform.admin, metric)} == {"registry", "pcs", "runs"}
