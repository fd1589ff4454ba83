"""Contract 2.2 and the OPTIONS of 2.4: media types, headers, HTML, HEAD, key order."""

import json
import re
from typing import Any

import pytest

from . import widgets
from .conftest import World
from .wire import Caller

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
NO_MATCH = '{"detail":"Could not satisfy the request Accept header."}'
LIST_METHODS = "GET, POST, HEAD, OPTIONS"
ROW_METHODS = "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
ORDER = [field.name for field in widgets.WIDGETS.fields]


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/*", "text/plain, */*;q=0.1", "application/json;q=0.5"]
)
def test_json_is_compact_and_unescaped_and_has_no_charset(api: Caller, accept: str | None) -> None:
    created = api.post("/api/labels/", json={"label_id": "grün", "note": "“☃”"}, accept=accept)
    row = '{"label_id":"grün","note":"“☃”"}'
    assert (created.status, created.text) == (201, row)
    assert api.get("/api/labels/", accept=accept).text == f"[{row}]"
    answer = api.get("/api/labels/gr%C3%BCn/", accept=accept)
    assert answer.text == row
    assert {created.headers["content-type"], answer.headers["content-type"]} == {"application/json"}


def test_an_empty_list_is_an_empty_array(api: Caller) -> None:
    answer = api.get("/api/widgets/")
    assert (answer.status, answer.text) == (200, "[]")


@pytest.mark.parametrize("accept", ["text/html", BROWSER, "text/html;q=0.9"])
def test_html_is_a_plain_page_of_escaped_json(api: Caller, accept: str) -> None:
    api.post("/api/labels/", json={"label_id": "1", "note": "<script>alert('&')</script>"})
    for target in ("/api/labels/", "/api/labels/1/"):
        answer = api.get(target, accept=accept)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<script" not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "<form" not in answer.text


@pytest.mark.parametrize(
    "target", ["/api/labels/?format=api", "/api/labels.api", "/api/labels/1.api", "/api/labels/1.api/"]
)
def test_the_api_format_is_the_html_page(api: Caller, target: str) -> None:
    api.post("/api/labels/", json={"label_id": "1"})
    answer = api.get(target)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_errors_are_html_where_html_is_wanted(api: Caller) -> None:
    answer = api.get("/api/labels/none/", accept="text/html")
    assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "No Label matches the given query." in answer.text


@pytest.mark.parametrize("accept", ["text/event-stream", "text/plain", "image/*", "application/xml, text/csv"])
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/api/widgets/"), ("POST", "/api/widgets/"), ("GET", "/api/widgets/1/"), ("DELETE", "/api/widgets/1/")],
)
def test_406(api: Caller, accept: str, method: str, target: str) -> None:
    answer = api.request(method, target, accept=accept)
    assert (answer.status, answer.text) == (406, NO_MATCH)
    assert answer.headers["content-type"] == "application/json"


def test_406_does_nothing(world: World) -> None:
    assert world.api.post("/api/widgets/", json=world.body(), accept="text/plain").status == 406
    assert world.count() == 0


def test_format_json_with_an_accept_of_html_is_406(api: Caller) -> None:
    answer = api.get("/api/widgets/?format=json", accept="text/html")
    assert (answer.status, answer.text) == (406, NO_MATCH)


@pytest.mark.parametrize(
    "accept", [";;;", "application", "/", "*/*;q=x", ",", "*/*;" * 200, "a" * 5000, 'text/html;level="1', "\xff\xfe"]
)
def test_a_strange_accept_header_is_no_server_error(api: Caller, accept: str) -> None:
    assert api.get("/api/widgets/", accept=accept).status in (200, 406)


def test_every_answer_of_a_resource_says_what_is_allowed_and_varies(world: World) -> None:
    row = f"/api/widgets/{world.widget()['id']}/"
    bad = {"content": b"{", "content_type": "application/json"}
    text = {"content": b"x", "content_type": "text/plain"}
    api, anonymous = world.api, world.anonymous
    answers = [
        (200, LIST_METHODS, api.get("/api/widgets/")),
        (200, LIST_METHODS, api.get("/api/widgets/?limit=1")),
        (200, LIST_METHODS, api.head("/api/widgets/")),
        (200, LIST_METHODS, api.options("/api/widgets/")),
        (201, LIST_METHODS, api.post("/api/widgets/", json=world.body())),
        (400, LIST_METHODS, api.post("/api/widgets/", json={})),
        (400, LIST_METHODS, api.post("/api/widgets/", **bad)),
        (415, LIST_METHODS, api.post("/api/widgets/", **text)),
        (403, LIST_METHODS, anonymous.post("/api/widgets/", json={})),
        (405, LIST_METHODS, api.put("/api/widgets/", json={})),
        (406, LIST_METHODS, api.get("/api/widgets/", accept="text/plain")),
        (404, LIST_METHODS, api.get("/api/widgets/?format=xml")),
        (200, LIST_METHODS, api.get("/api/widgets/", accept="text/html")),
        (200, ROW_METHODS, api.get(row)),
        (200, ROW_METHODS, api.head(row)),
        (200, ROW_METHODS, api.options(row)),
        (200, ROW_METHODS, api.patch(row, json={})),
        (400, ROW_METHODS, api.put(row, json={})),
        (415, ROW_METHODS, api.patch(row, **text)),
        (403, ROW_METHODS, anonymous.delete(row)),
        (405, ROW_METHODS, api.post(row, json={})),
        (406, ROW_METHODS, api.get(row, accept="text/plain")),
        (204, ROW_METHODS, api.delete(row)),
        (404, ROW_METHODS, api.get(row)),
        (404, ROW_METHODS, api.get("/api/widgets/abc/")),
    ]
    for status, allow, answer in answers:
        assert answer.status == status
        assert answer.headers["allow"] == allow
        assert answer.headers["vary"] == "Accept, Cookie"


@pytest.mark.parametrize("target", ["/api/widgets/", "/api/widgets/?limit=1", "/api/widgets/{id}/"])
def test_head_is_get_without_a_body(world: World, target: str) -> None:
    target = target.format(id=world.widget()["id"])
    head, get = world.api.head(target), world.api.get(target)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"] == "application/json"


def test_keys_come_in_the_order_of_the_declaration(world: World) -> None:
    created = world.widget(slot=1, metadata={}, crate=str(world.crate()))
    row = f"/api/widgets/{created['id']}/"
    assert list(created) == ORDER
    for answer in (
        world.api.get(row),
        world.api.patch(row, json={"payload": 1, "amount": 2}),
        world.api.put(row, json=world.body()),
    ):
        assert list(answer.json()) == ORDER
    assert [list(each) for each in world.api.get("/api/widgets/").json()] == [ORDER]
    assert [list(each) for each in world.api.get("/api/widgets/?limit=1").json()["results"]] == [ORDER]


def test_foreign_keys_and_uuids_are_raw_keys(world: World) -> None:
    part, crate = world.part("bolt"), world.crate()
    created = world.widget(part=part, crate=str(crate).upper(), named_part="bolt", batch_id=crate.hex.upper())
    stored = world.api.get("/api/widgets/").json()[0]
    for row in (created, stored):
        assert (row["part"], row["named_part"]) == (part, "bolt")
        assert (row["crate"], row["batch_id"]) == (str(crate), str(crate))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        "",
        "☃",
        [],
        {},
        [[[]]],
        {"": {"a.b": [1, None, {"x": '\n\t"\\/'}]}},
        123456789012345678901234567890,
        -123456789012345678901234567890,
        2**63,
        2**64,
        10**400,
        -(10**4000),
        0.1,
        1e-7,
        9007199254740993,
        [1, 1.0, "1", True],
        "\\u0000",
        "\u2028",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_any_json_comes_back_as_it_was(world: World, value: Any) -> None:
    created = world.widget(metadata=value, payload={"v": value})
    for row in (
        created,
        world.api.get(f"/api/widgets/{created['id']}/").json(),
        world.api.get("/api/widgets/").json()[0],
    ):
        assert json.dumps(row["metadata"]) == json.dumps(value)
        assert json.dumps(row["payload"]) == json.dumps({"v": value})
    assert b": " not in re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', world.api.get("/api/widgets/").body)


@pytest.mark.parametrize("value", [1.7976931348623157e308, 5e-324, 1e22, -0.0])
def test_a_number_of_any_size_keeps_its_value(world: World, value: float) -> None:
    row = world.widget(payload=[value], fraction=value)
    assert float(row["payload"][0]) == value
    assert row["fraction"] == value
    assert world.api.get(f"/api/widgets/{row['id']}/").json() == row


def test_list_parameters_of_other_systems_are_ignored(world: World) -> None:
    rows = [world.widget() for _ in range(3)]
    answer = world.api.get("/api/widgets/?page=2&page_size=1&search=zzz&ordering=-id&nope=%00&=&&%zz")
    assert answer.json() == rows


# ---- OPTIONS ----

SHAPES: dict[str, dict[str, Any]] = {
    "id": {"type": "integer", "read_only": True},
    "named_part": {"type": "field"},
    "widget_name": {"type": "string", "required": True, "max_length": 100},
    "description": {"type": "string", "required": False, "read_only": False},
    "kind": {
        "type": "choice",
        "required": True,
        "choices": [{"value": "bolt", "display_name": "A bolt"}, {"value": "nut", "display_name": "A nut"}],
    },
    "amount": {"type": "integer", "required": True, "min_value": -(2**31), "max_value": 2**31 - 1},
    "grade": {"type": "integer", "min_value": 1, "max_value": 10},
    "thread": {"type": "integer", "min_value": -(2**63), "max_value": 2**63 - 1},
    "fraction": {"type": "float"},
    "is_active": {"type": "boolean", "required": False},
    "is_good": {"type": "boolean"},
    "started_at": {"type": "datetime", "required": True},
    "created_at": {"type": "datetime", "read_only": True},
    "home_url": {"type": "url", "max_length": 200},
    "batch_id": {"type": "string"},
    "client_ip": {"type": "string"},
    "payload": {"type": "field", "required": True},
    "part": {"type": "field", "required": True},
}


def test_options_describes_the_resource(world: World) -> None:
    row = f"/api/widgets/{world.widget()['id']}/"
    for target, action in (("/api/widgets/", "POST"), (row, "PUT")):
        answer = world.api.options(target)
        described = answer.json()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(described["name"], str)
        assert isinstance(described["description"], str)
        assert described["renders"] == ["application/json", "text/html"]
        assert described["parses"] == [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ]
        assert list(described["actions"]) == [action]
        fields = described["actions"][action]
        assert list(fields) == ORDER
        for name, shape in SHAPES.items():
            assert fields[name] | shape == fields[name], name
        for field in fields.values():
            assert {"type", "required", "read_only", "label"} <= set(field)
            assert isinstance(field["label"], str)
        values = [choice["value"] for choice in fields["level"]["choices"]]
        assert values == [0, 10, 20, 30]


def test_options_without_a_token_has_no_actions(anonymous: Caller) -> None:
    answer = anonymous.options("/api/widgets/")
    assert answer.status == 200
    assert "actions" not in answer.json()


def test_options_is_refused_as_get_is(closed_world: World) -> None:
    for target in ("/api/widgets/", "/api/widgets/1/", "/api/secrets/"):
        options, get = closed_world.anonymous.options(target), closed_world.anonymous.get(target)
        assert (options.status, options.text) == (get.status, get.text)
        assert options.status == 403
