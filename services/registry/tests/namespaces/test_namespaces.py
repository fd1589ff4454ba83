"""Namespaces are listed, read and changed (new endpoints)."""

import json
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from starlette.testclient import TestClient

from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from ..conftest import MakeApp, Start

PATH = "/api/namespaces/"


@pytest.fixture
def api(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("namespaces:write"))
    return client


def ensure(api: TestClient, *names: str) -> None:
    for name in names:
        assert api.post(f"{PATH}ensure/", json={"name": name, "owner": "ada"}).status_code == 200


def one(name: str) -> str:
    return f"{PATH}{quote(name, safe='')}/"


def patch(api: TestClient, name: str, body: Any) -> Any:
    return api.patch(one(name), json=body)


def test_a_namespace_can_be_read_by_everybody(api: TestClient) -> None:
    ensure(api, "n1")
    del api.headers["Authorization"]
    found = api.get(one("n1")).json()
    assert found.pop("created_at") == found.pop("updated_at")
    assert found == {"name": "n1", "owner": "ada", "description": "", "metadata": None}
    assert [row["name"] for row in api.get(PATH).json()] == ["n1"]


def test_reads_are_closed_where_the_site_says_so(start: Start, tokens: Tokens) -> None:
    api = start(shared={"anonymous_read": False})
    assert api.get(PATH).status_code == 401
    assert api.get(one("n1")).status_code == 401
    assert api.get(PATH, headers=tokens.header()).status_code == 200


@pytest.mark.parametrize("path", [PATH, one("n1")])
def test_a_bad_token_is_refused_on_an_open_read_too(api: TestClient, path: str) -> None:
    assert api.get(path, headers={"Authorization": "Token bad"}).status_code == 401


@pytest.mark.parametrize("prefix", ["", "/swf-monitor"])
def test_every_name_that_can_be_made_can_be_read_and_changed(make_app: MakeApp, tokens: Tokens, prefix: str) -> None:
    # A real server: the test client of Starlette decodes paths twice.
    names = [
        "a/b",
        "a/",
        "/",
        "a//b",
        "a b",
        "ümläut",
        "a.json",
        "100%",
        "%2F",
        "%252F",
        "a\nb",
        "日本",
        "#?&",
        "ensured",
    ]
    with serving(make_app(shared={"base_path": prefix})) as served, httpx2.Client() as http:
        http.headers.update(tokens.header("namespaces:write"))
        for name in names:
            base = f"{served.url}{prefix}"
            assert http.post(f"{base}{PATH}ensure/", json={"name": name, "owner": "ada"}).json()["created"]
            assert http.get(base + one(name)).json()["name"] == name
            assert http.patch(base + one(name), json={"owner": "eve"}).json()["owner"] == "eve"


def test_the_list_is_ordered_by_name_and_its_pages_lead_to_each_other(start: Start, tokens: Tokens) -> None:
    api = start(shared={"base_path": "/swf-monitor"})
    names = sorted(f"n{number:02}/& ü" for number in range(7))
    for name in reversed(names):
        body = {"name": name, "owner": "ada"}
        api.post(f"/swf-monitor{PATH}ensure/", json=body, headers=tokens.header("namespaces:write"))
    seen: list[str] = []
    pages, url = 0, f"/swf-monitor{PATH}?limit=3"
    while url:
        reply = api.get(url)
        pages, seen = pages + 1, seen + [row["name"] for row in reply.json()]
        url = reply.links.get("next", {}).get("url", "")
        assert url.startswith("http://testserver/swf-monitor/api/") or not url
    assert (seen, pages) == (names, 3)


def test_a_last_page_that_is_full_leads_nowhere(api: TestClient) -> None:
    ensure(api, "n1", "n2")
    assert "link" not in api.get(f"{PATH}?limit=2").headers


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=%00", f"after={'x' * 1001}"])
def test_a_bad_page_is_a_problem(standing: TestClient, query: str) -> None:
    reply = standing.get(f"{PATH}?{query}")
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert reply.json()["errors"][0]["field"] == query.partition("=")[0]


def test_a_change_writes_what_is_given_and_leaves_the_rest(api: TestClient) -> None:
    ensure(api, "n1")
    before = api.get(one("n1")).json()
    metadata = {"contact": "ada@example.org", "nested": [1, None, {"ü": 1.5}]}
    changed = patch(api, "n1", {"metadata": metadata}).json()
    assert changed["updated_at"] > before["updated_at"]
    assert changed == {**before, "metadata": metadata, "updated_at": changed["updated_at"]}
    assert patch(api, "n1", {"owner": " eve ", "description": "by eve"}).json()["metadata"] == metadata
    assert patch(api, "n1", {"metadata": None}).json()["metadata"] is None
    final = api.get(one("n1")).json()
    assert (final["owner"], final["description"]) == ("eve", "by eve")


def test_an_unknown_namespace_is_a_problem(api: TestClient) -> None:
    for reply in (api.get(one("nope/ü")), patch(api, "nope/ü", {"owner": "eve"})):
        assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
        assert reply.json()["type"] == "urn:problem:namespace_unknown"


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("owner", {"owner": ""}),
        ("owner", {"owner": None}),
        ("owner", {"owner": "x" * 101}),
        ("owner", {"owner": "a\0b"}),
        ("owner", {"owner": "a\ud800"}),
        ("owner", {"owner": 5}),
        ("description", {"description": None}),
        ("description", {"description": "a\0b"}),
        ("metadata", {"metadata": {"a": "\0"}}),
        ("metadata", {"metadata": {"a": "\ud800"}}),
        ("metadata", {"metadata": [float("nan")]}),
        ("metadata", {"metadata": float("inf")}),
        ("name", {"name": "n2"}),
        ("nope", {"nope": 1}),
        ("body", []),
        ("body", "n1"),
    ],
)
def test_a_bad_change_is_a_problem_that_names_the_field(
    standing: TestClient, tokens: Tokens, field: str, body: Any
) -> None:
    headers = {"Content-Type": "application/json", **tokens.header("namespaces:write")}
    reply = standing.patch(one("n1"), content=json.dumps(body), headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert [error["field"] for error in reply.json()["errors"]] == [field]


@pytest.mark.parametrize("levels", [200, 400, 800, 5000])
def test_deep_metadata_is_taken_or_refused(api: TestClient, levels: int) -> None:
    ensure(api, "n1")
    text = '{"metadata":%s}' % ("[" * levels + "]" * levels)
    reply = api.patch(one("n1"), content=text, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400)
    assert api.get(one("n1")).status_code == 200


def test_changes_need_the_scope(api: TestClient, tokens: Tokens) -> None:
    ensure(api, "n1")
    reply = api.patch(one("n1"), json={"owner": "eve"}, headers=tokens.header("agents:write"))
    assert (reply.status_code, reply.json()["type"]) == (403, "urn:problem:forbidden")
    del api.headers["Authorization"]
    assert api.patch(one("n1"), json={"owner": "eve"}).status_code == 401
    assert api.get(one("n1")).json()["owner"] == "ada"
