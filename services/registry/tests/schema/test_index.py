"""``GET /api/`` says where everything is (contract 4.1)."""

import pytest
from starlette.testclient import TestClient

from ..conftest import Start

RESOURCES = [
    "systemagents",
    "logs",
    "workflows",
    "workflow-stages",
    "workflow-messages",
    "runs",
    "stf-files",
    "subscribers",
    "fastmon-files",
    "workflow-definitions",
    "workflow-executions",
    "tf-slices",
    "workers",
    "run-states",
    "system-state-events",
]


def test_the_resources_of_all_services_are_named_in_the_contracts_order(standing: TestClient) -> None:
    reply = standing.get("/api/")
    assert list(reply.json().items()) == [(name, f"http://testserver/api/{name}/") for name in RESOURCES]


def test_urls_carry_the_prefix_and_the_host_of_the_request(start: Start) -> None:
    client = start(shared={"base_path": "/swf-monitor"})
    found = client.get("/swf-monitor/api/", headers={"Host": "daq.example.org:8443"}).json()
    assert found["runs"] == "http://daq.example.org:8443/swf-monitor/api/runs/"


def test_the_public_url_wins_over_the_host(start: Start) -> None:
    client = start(shared={"public_url": "https://lab.example.org/swf"})
    assert client.get("/api/").json()["logs"] == "https://lab.example.org/swf/api/logs/"


def test_the_index_looks_at_no_credential(start: Start) -> None:
    client = start(shared={"anonymous_read": False})
    assert client.get("/api/", headers={"Authorization": "Token bad"}).status_code == 200


def test_a_browser_gets_a_page(standing: TestClient) -> None:
    reply = standing.get("/api/", headers={"Accept": "text/html"})
    assert reply.headers["content-type"].startswith("text/html")
    assert "system-state-events" in reply.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("HEAD", "/api/", 200), ("POST", "/api/", 405), ("GET", "/api", 301)]
)
def test_the_index_follows_the_rules_of_all_paths(standing: TestClient, method: str, path: str, status: int) -> None:
    assert standing.request(method, path).status_code == status
