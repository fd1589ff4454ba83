"""A prefix before all paths: routers do not notice it, and nothing is served outside of it."""

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from sluice_core.http import BasePath, absolute_url


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.get("/api/runs/{key}")
    def run(key: str, request: Request) -> dict[str, str]:
        return {"key": key, "url": absolute_url(request.scope, "/api/runs/")}

    return TestClient(BasePath(app, "/swf-monitor"), base_url="http://lab.example:8002")


def test_routes_are_found_below_the_prefix_and_urls_keep_it(client: TestClient) -> None:
    reply = client.get("/swf-monitor/api/runs/7")
    assert reply.json() == {"key": "7", "url": "http://lab.example:8002/swf-monitor/api/runs/"}


@pytest.mark.parametrize("path", ["/api/runs/7", "/swf-monitorx/api/runs/7", "/swf-monitor", "/"])
def test_nothing_is_found_outside_of_the_prefix(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("host", ["evil.example/path", "a b", "<script>", ""])
def test_a_host_header_that_is_none_does_not_get_into_urls(client: TestClient, host: str) -> None:
    reply = client.get("/swf-monitor/api/runs/7", headers={"Host": host})
    assert reply.json()["url"] == "http://lab.example:8002/swf-monitor/api/runs/"
