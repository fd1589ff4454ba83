"""Contract 2.1: which URL is what; decision 13: keys with dots and slashes; correction 18.1: bare redirects."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from .conftest import World, opened
from .wire import Caller, Loop

SECTION_1_HEADERS = ("x-frame-options", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy")


@pytest.fixture(scope="module")
def prefixed(loop: Loop, url: str, engine: sa.Engine) -> Iterator[World]:
    with opened(loop, url, engine, root_path="/swf-monitor") as made:
        yield made


def make_label(api: Caller, key: str, note: str = "") -> None:
    answer = api.post("/api/labels/", json={"label_id": key, "note": note})
    assert (answer.status, answer.json()) == (201, {"label_id": key, "note": note})


def raw(key: str) -> str:
    return quote(key, safe="")


@pytest.mark.parametrize("suffix", ["/", ".json", ".json/", "/?format=json", ".json?format=json"])
def test_a_list_and_a_row_have_a_plain_url_and_a_format_suffix(world: World, suffix: str) -> None:
    row = world.widget()
    assert world.api.get(f"/api/widgets{suffix}").json() == [row]
    assert world.api.get(f"/api/widgets/{row['id']}{suffix}").json() == row
    created = world.api.post(f"/api/widgets{suffix}", json=world.body())
    assert created.status == 201
    target = f"/api/widgets/{created.json()['id']}{suffix}"
    assert world.api.patch(target, json={"amount": 9}).json()["amount"] == 9
    assert world.api.put(target, json=world.body(amount=10)).json()["amount"] == 10
    assert world.api.head(target).status == 200
    assert world.api.options(target).status == 200
    assert world.api.delete(target).status == 204
    assert world.api.get(target).status == 404


def test_a_uuid_key_is_taken_in_every_spelling(world: World) -> None:
    key = world.crate()
    for spelling in (str(key), str(key).upper(), key.hex, key.hex.upper()):
        answer = world.api.get(f"/api/crates/{spelling}/")
        assert (answer.status, answer.json()["crate_id"]) == (200, str(key))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/api/widgets", "/api/widgets/"),
        ("/api/widgets?amount=3&owner=a%20b", "/api/widgets/?amount=3&owner=a%20b"),
        ("/api/widgets/1", "/api/widgets/1/"),
        ("/api/widgets/1?format=json", "/api/widgets/1/?format=json"),
        ("/api/labels/a%2Fb", "/api/labels/a%2Fb/"),
        ("/api/labels/%C3%BC", "/api/labels/%C3%BC/"),
    ],
)
def test_a_missing_slash_is_301_with_no_body_and_no_headers(
    anonymous: Caller, method: str, target: str, location: str
) -> None:
    answer = anonymous.request(method, target, content=b"{" if method == "POST" else b"")
    assert (answer.status, answer.body) == (301, b"")
    assert answer.headers["location"] == location
    for name in (*SECTION_1_HEADERS, "allow"):
        assert name not in answer.headers


def test_the_redirect_keeps_the_prefix(prefixed: World) -> None:
    answer = prefixed.api.post("/swf-monitor/api/widgets?amount=1", json={})
    assert (answer.status, answer.headers["location"]) == (301, "/swf-monitor/api/widgets/?amount=1")
    answer = prefixed.api.get("/swf-monitor/api/labels/a%2Fb")
    assert (answer.status, answer.headers["location"]) == (301, "/swf-monitor/api/labels/a%2Fb/")


def test_resources_answer_under_a_prefix(prefixed: World) -> None:
    created = prefixed.api.post("/swf-monitor/api/labels/", json={"label_id": "a/b.c"})
    assert created.status == 201
    assert prefixed.api.get("/swf-monitor/api/labels/").json() == [created.json()]
    assert prefixed.api.get("/swf-monitor/api/labels/a%2Fb.c/").json() == created.json()
    assert prefixed.api.get("/swf-monitor/api/labels.json").json() == [created.json()]


def test_pages_under_a_prefix_lead_to_each_other(prefixed: World) -> None:
    for key in ("a", "b", "c"):
        prefixed.api.post("/swf-monitor/api/labels/", json={"label_id": key})
    seen, target = [], "/swf-monitor/api/labels/?limit=1"
    while target:
        page = prefixed.api.get(target).json()
        seen += [row["label_id"] for row in page["results"]]
        if page["next"]:
            assert page["next"].startswith("http://testserver/swf-monitor/api/labels/?")
        target = (page["next"] or "").removeprefix("http://testserver")
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api/",
        "/api/nothere/",
        "/api/nothere",
        "/api/nothere.json",
        "/api/widgetsandmore/",
        "/api/labels/a/b/",
        "/api/labels/a/b.json",
        "/api//widgets/",
        "/widgets/",
        "/API/widgets/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_no_resource_answers_reaches_the_inner_application(api: Caller, method: str, target: str) -> None:
    answer = api.request(method, target)
    assert (answer.status, answer.text) == (418, f"{method} {target}")


@pytest.mark.parametrize(
    "target",
    ["/api/widgets/?format=xml", "/api/widgets/?format=", "/api/labels/?format=JSON", "/api/widgets/1/?format=csv"],
)
def test_an_unknown_format_is_404(world: World, target: str) -> None:
    if target.endswith("format="):
        # An empty one asks for nothing.
        assert world.api.get(target).status == 200
        return
    answer = world.api.get(target)
    assert (answer.status, answer.text) == (404, '{"detail":"Not found."}')
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("target", ["/api/widgets.xml", "/api/widgets.xml/"])
def test_an_unknown_suffix_of_a_list_is_no_resource(api: Caller, target: str) -> None:
    assert api.get(target).status in (404, 418)


def test_an_unknown_suffix_of_an_integer_key_is_404(world: World) -> None:
    answer = world.api.get(f"/api/widgets/{world.widget()['id']}.xml/")
    assert (answer.status, answer.text) == (404, '{"detail":"Not found."}')


@pytest.mark.parametrize(
    "key",
    [
        "a.b",
        "daq-1.example.org",
        "a/b",
        "/",
        "a/",
        "//host/path",
        "a.json",
        "a.api",
        "a.xml",
        "a.json.json",
        ".json",
        ".",
        "..",
        "../widgets",
        "a b",
        "50%",
        "%2F",
        "a+b",
        "a?b",
        "a#b",
        "a&b=c",
        "ünï.cødé/✓",
        "'; DROP TABLE label; --",
        "json",
        "x" * 100,
    ],
)
def test_every_text_key_can_be_addressed(api: Caller, key: str) -> None:
    make_label(api, key)
    target = f"/api/labels/{raw(key)}/"

    assert api.get(target).json() == {"label_id": key, "note": ""}
    assert api.patch(target, json={"note": "patched"}).json() == {"label_id": key, "note": "patched"}
    assert api.put(target, json={"label_id": key, "note": "put"}).json() == {"label_id": key, "note": "put"}
    assert api.delete(target).status == 204
    assert api.get(target).status == 404


def test_lower_case_escapes_and_literal_dots_are_the_same_key(api: Caller) -> None:
    make_label(api, "a/b.c")
    for spelling in ("a%2fb.c", "a%2Fb.c", "a%2Fb%2Ec", "%61%2Fb.c"):
        assert api.get(f"/api/labels/{spelling}/").json()["label_id"] == "a/b.c"


@pytest.mark.parametrize("spelling", ["%20a", "a%20", "A", "a%00", "a%0A", "%C3%A4"])
def test_another_text_is_another_key(api: Caller, spelling: str) -> None:
    make_label(api, "a")
    for method in ("GET", "PATCH", "DELETE"):
        assert api.request(method, f"/api/labels/{spelling}/").status == 404
    assert len(api.get("/api/labels/").json()) == 1


def test_a_final_suffix_is_a_format_only_where_no_such_key_exists(api: Caller) -> None:
    make_label(api, "a", note="short")
    assert api.get("/api/labels/a.json/").json()["note"] == "short"
    assert api.get("/api/labels/a.json").json()["note"] == "short"

    make_label(api, "a.json", note="long")
    assert api.get("/api/labels/a.json/").json()["note"] == "long"
    assert api.get("/api/labels/a/").json()["note"] == "short"
    assert api.get("/api/labels/a.json.json").json()["note"] == "long"
    assert api.get("/api/labels/a.json.json/").json()["note"] == "long"

    assert api.delete("/api/labels/a.json/").status == 204
    assert api.get("/api/labels/a.json/").json()["note"] == "short"


def test_a_dot_that_is_no_format_belongs_to_the_key(api: Caller) -> None:
    make_label(api, "a")
    answer = api.get("/api/labels/a.xml/")
    assert (answer.status, answer.json()) == (404, {"detail": "No Label matches the given query."})


def follow(api: Caller, target: str) -> Any:
    answer = api.get(target)
    return api.get(answer.headers["location"]) if answer.status == 301 else answer


@pytest.mark.parametrize("key", ["a.b", "a.json", "a.xml"])
def test_a_key_with_a_dot_is_found_without_the_slash_too(api: Caller, key: str) -> None:
    make_label(api, key)
    assert follow(api, f"/api/labels/{raw(key)}").json()["label_id"] == key


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_index_of_a_path_with_only_the_prefix_is_not_the_doors(prefixed: World, method: str) -> None:
    assert prefixed.api.request(method, "/swf-monitor/api/nothere/").status == 418
