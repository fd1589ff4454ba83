"""``POST /api/namespaces/ensure/`` as runners use it (contract 4.3)."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from ..conftest import Start

ENSURE = "/api/namespaces/ensure/"
NEW = {"name": "n1", "owner": "ada", "description": "", "created": True, "status": "success"}


@pytest.fixture
def ensure(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("namespaces:write"))
    return client


@pytest.fixture
def standing(standing: TestClient, tokens: Tokens) -> TestClient:
    standing.headers.update(tokens.header("namespaces:write"))
    return standing


def refused(error: str) -> dict[str, str]:
    return {"error": error, "status": "error"}


def test_a_namespace_is_made_once_and_its_owner_wins(ensure: TestClient) -> None:
    first = ensure.post(ENSURE, json={"name": "n1", "owner": "ada"})
    assert (first.status_code, first.json()) == (200, NEW)
    again = ensure.post(ENSURE, json={"name": "n1", "owner": "bob", "description": "mine"})
    assert (again.status_code, again.json()) == (200, {**NEW, "created": False})
    assert ensure.post(ENSURE, json={"owner": "x"}).json() == refused("name is required")


def test_the_answer_has_the_keys_in_the_contracts_order(ensure: TestClient) -> None:
    text = ensure.post(ENSURE, json={"owner": "ada", "name": "n1"}).text
    assert text == '{"name":"n1","owner":"ada","description":"","created":true,"status":"success"}'


@pytest.mark.parametrize(
    "absent", [{}, {"owner": "x", "name": ""}, {"name": None}, {"name": 0}, {"name": "  "}, {"name": []}]
)
def test_without_a_name_nothing_else_is_looked_at(standing: TestClient, absent: dict[str, Any]) -> None:
    reply = standing.post(ENSURE, json={"description": None, **absent})
    assert (reply.status_code, reply.json()) == (400, refused("name is required"))


@pytest.mark.parametrize("absent", [{}, {"owner": ""}, {"owner": None}, {"owner": False}])
def test_an_owner_is_required(standing: TestClient, absent: dict[str, Any]) -> None:
    reply = standing.post(ENSURE, json={"name": "n1", **absent})
    assert (reply.status_code, reply.json()) == (400, refused("owner is required"))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        (field, bad)
        for field in ("name", "owner", "description")
        for bad in (["x"], {"a": 1}, True, "a\0b", "a\ud800b", *(["x" * 101] if field != "description" else [None]))
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(standing: TestClient, field: str, bad: Any) -> None:
    body = json.dumps({"name": "n1", "owner": "ada", field: bad})
    reply = standing.post(ENSURE, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["status"] == "error"
    assert reply.json()["error"].startswith(f"{field}: ")


@pytest.mark.parametrize("body", ["[]", '"n1"', "5", "null", "true"])
def test_a_body_that_is_no_object_is_refused(standing: TestClient, body: str) -> None:
    reply = standing.post(ENSURE, content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()) == (400, refused("the body must be an object"))


def test_a_body_that_cannot_be_read_is_refused_as_everywhere(standing: TestClient) -> None:
    reply = standing.post(ENSURE, content="{", headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("JSON parse error")
    reply = standing.post(ENSURE, content="n1", headers={"Content-Type": "text/plain"})
    assert reply.status_code == 415


def test_an_empty_body_is_an_empty_object(standing: TestClient) -> None:
    assert standing.post(ENSURE).json() == refused("name is required")


def test_forms_are_taken_too(ensure: TestClient) -> None:
    assert ensure.post(ENSURE, data={"name": "n1", "owner": "ada"}).json() == NEW
    assert ensure.post(ENSURE, data={"name": "n1"}).json() == refused("owner is required")
    parts = {"name": (None, "n2"), "owner": (None, "ada"), "description": (None, "two")}
    assert ensure.post(ENSURE, files=parts).json() == {**NEW, "name": "n2", "description": "two"}


def test_keys_that_mean_nothing_are_ignored_and_numbers_are_text(ensure: TestClient) -> None:
    reply = ensure.post(ENSURE, json={"name": 7, "owner": "ada", "metadata": {"a": 1}, "nope": [1]})
    assert reply.json() == {**NEW, "name": "7"}


@pytest.mark.parametrize("name", ["x" * 100, "ümläut/ and space", "a/b/", ".", "%2F", "\n", "<b>", "日本"])
def test_a_name_may_hold_any_character(ensure: TestClient, name: str) -> None:
    reply = ensure.post(ENSURE, json={"name": f"n{name}"[:100], "owner": "ada"})
    assert (reply.status_code, reply.json()["name"]) == (200, f"n{name}"[:100].strip())


def test_of_many_that_ensure_one_name_at_once_one_has_made_it(ensure: TestClient) -> None:
    with ThreadPoolExecutor(16) as threads:
        replies = list(
            threads.map(lambda n: ensure.post(ENSURE, json={"name": "n1", "owner": f"o{n}"}).json(), range(48))
        )
    assert sum(reply["created"] for reply in replies) == 1
    assert len({reply["owner"] for reply in replies}) == 1


def test_refusals_are_those_of_the_matrix(client: TestClient, tokens: Tokens) -> None:
    body = {"name": "n1", "owner": "ada"}
    none = client.post(ENSURE, json=body)
    assert (none.status_code, none.json()) == (403, {"detail": "Authentication credentials were not provided."})
    bad = client.post(ENSURE, json=body, headers={"Authorization": "Token bad"})
    assert (bad.status_code, bad.json()) == (403, {"detail": "Invalid token."})
    other = client.post(ENSURE, json=body, headers=tokens.header("agents:write"))
    assert other.json() == {"detail": "You do not have permission to perform this action."}


def test_only_post_ensures(standing: TestClient) -> None:
    reply = standing.get(ENSURE)
    assert (reply.status_code, reply.json()) == (405, {"detail": 'Method "GET" not allowed.'})
    assert reply.headers["allow"] == "POST, OPTIONS"


def test_a_missing_slash_is_redirected(start: Start) -> None:
    reply = start(shared={"base_path": "/swf-monitor"}).post("/swf-monitor/api/namespaces/ensure", json={})
    assert (reply.status_code, reply.headers["location"]) == (301, "/swf-monitor/api/namespaces/ensure/")
