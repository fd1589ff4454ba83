"""New endpoints refuse with RFC 9457 bodies, whatever the reason."""

from typing import ClassVar

import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from starlette.testclient import TestClient

from sluice_core import errors
from sluice_core.database import DatabaseAway


class AgentUnknown(errors.Problem):
    status, code, title = 404, "agent_unknown", "No such agent"


class Plan(BaseModel):
    name: str
    steps: list[int] = []
    reserved: ClassVar[int] = 0


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(strict_content_type=False)
    errors.install(app)

    @app.get("/agents/{name}")
    def agent(name: str) -> str:
        raise AgentUnknown(f"{name} never reported", headers={"X-Hint": "look again"}, name=name)

    @app.post("/plans")
    def plan(plan: Plan, limit: int = 5) -> str:
        return plan.name

    @app.get("/busy")
    def busy() -> str:
        raise HTTPException(429, "too often", headers={"Retry-After": "3"})

    @app.get("/rows")
    def rows() -> str:
        raise DatabaseAway("no route to host")

    return TestClient(app)


def test_a_problem_becomes_its_body(client: TestClient) -> None:
    reply = client.get("/agents/gh%20ost")
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-hint"] == "look again"
    assert reply.json() == {
        "type": "urn:problem:agent_unknown",
        "title": "No such agent",
        "status": 404,
        "detail": "gh ost never reported",
        "instance": "/agents/gh%20ost",
        "name": "gh ost",
    }


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/plans", "{}", "name"),
        ("/plans", '{"name": "a", "steps": [1, "x"]}', "steps.1"),
        ("/plans?limit=x", '{"name": "a"}', "limit"),
        ("/plans", "{", "body"),
        ("/plans", "", "body"),
        ("/plans", "[]", "body"),
    ],
)
def test_bad_input_is_a_400_that_names_the_field(client: TestClient, path: str, body: str, field: str) -> None:
    reply = client.post(path, content=body)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == "urn:problem:validation"
    assert [error["field"] for error in reply.json()["errors"]] == [field]
    assert reply.json()["errors"][0]["message"]


def test_a_body_of_many_errors_gets_a_short_answer(client: TestClient) -> None:
    reply = client.post("/plans", json={"name": "a", "steps": ["x"] * 10_000})
    assert len(reply.json()["errors"]) == 20


def test_a_wrong_method_is_a_problem_that_keeps_allow(client: TestClient) -> None:
    reply = client.delete("/busy")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    assert reply.json()["type"] == "urn:problem:method_not_allowed"


def test_an_http_exception_is_a_problem_that_keeps_its_headers(client: TestClient) -> None:
    reply = client.get("/busy")
    assert (reply.status_code, reply.headers["retry-after"], reply.json()["detail"]) == (429, "3", "too often")


def test_an_unknown_path_is_a_page(client: TestClient) -> None:
    reply = client.get("/nowhere")
    assert (reply.status_code, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_an_absent_database_is_a_503_problem_to_be_tried_again(client: TestClient) -> None:
    reply = client.get("/rows")
    assert (reply.status_code, reply.json()["type"]) == (503, "urn:problem:unavailable")
    assert int(reply.headers["retry-after"]) > 0
    assert "route" not in reply.text
