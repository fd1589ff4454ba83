"""What a resource may declare beyond its fields: methods, rules of writes, other names of rows, what SQL works out."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, Change, Derived, Door, ForeignKey, Resource, Text
from sluice_core.rest.openapi import paths

from . import widgets
from .conftest import Doorman, inner
from .wire import Caller, Loop

CHANGES: list[Change] = []


def admit(_: sa.Connection, attempt: Attempt) -> None:
    row = attempt.before or attempt.data
    if row.get("note") == "closed":
        raise ApiError(400, {"detail": f"{attempt.kind} by {attempt.by.subject if attempt.by else None}: closed"})


def prepare(connection: sa.Connection, attempt: Attempt) -> None:
    if attempt.values.get("note") == "wrong":
        attempt.errors.setdefault("note", []).append("It is wrong.")
    if "note" in attempt.values:
        attempt.values["note"] = attempt.values["note"].upper() if attempt.values["note"] != "closed" else "closed"


def resolve(connection: sa.Connection, text: str) -> str:
    found = connection.execute(sa.select(widgets.label.c.label_id).where(widgets.label.c.label_id.like(f"{text}%")))
    keys: list[str] = list(found.scalars())
    if len(keys) != 1:
        raise ApiError(409, {"detail": f"{len(keys)} rows"})
    return keys[0]


RULED = Resource(
    "ruled",
    model="Label",
    label="label",
    table=widgets.label,
    key="label_id",
    write="widgets:write",
    fields=(
        Text("label_id", required=True, max_length=100, unique=True),
        Text("note", blank=True, default=""),
        Derived("length", sql="length(label.note)", kind="integer"),
    ),
    on_detail=("PATCH", "DELETE"),
    admit=admit,
    prepare=prepare,
    resolve=resolve,
    on_change=lambda _, change: CHANGES.append(change),
)
READ_ONLY = Resource(
    "read-only",
    model="Label",
    label="label",
    table=widgets.label,
    key="label_id",
    write="widgets:write",
    fields=RULED.fields[:2],
    on_list=(),
    on_detail=(),
)
# One column twice: as the key that is sent, and as the name that is only shown.
NAMED = Resource(
    "named",
    model="Widget",
    label="widget",
    table=widgets.widget,
    key="id",
    write="widgets:write",
    fields=(
        *widgets.WIDGETS.fields,
        ForeignKey("part_name", widgets.PARTS, slug="part_name", stored_as="part_id", read_only=True),
    ),
)


@pytest.fixture
def ruled(loop: Loop, url: str, engine: sa.Engine) -> Iterator[Caller]:
    CHANGES.clear()
    database = Database(url, pool_size=2, application_name="rest-tests")
    door = Door(
        inner,
        database=database,
        resources=(widgets.PARTS, RULED, READ_ONLY, NAMED),
        authenticator=Doorman(),
        zone=ZoneInfo("UTC"),
    )
    yield Caller(loop, door, token="ada")
    database.close()


def test_methods_that_a_resource_has_not_are_405_and_not_offered(ruled: Caller) -> None:
    assert ruled.post("/api/ruled/", json={"label_id": "a"}).status == 201
    refused = ruled.put("/api/ruled/a/", json={"label_id": "a"})
    assert (refused.status, refused.json()) == (405, {"detail": 'Method "PUT" not allowed.'})
    assert refused.headers["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    for method, path in (("POST", "/api/read-only/"), ("PATCH", "/api/read-only/a/"), ("DELETE", "/api/read-only/a/")):
        answer = ruled.request(method, path, json={"label_id": "b"})
        assert (answer.status, answer.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
    assert ruled.get("/api/read-only/a/").headers["allow"] == "GET, HEAD, OPTIONS"
    assert ruled.request("OPTIONS", "/api/read-only/a/").status == 200
    described = paths((RULED, READ_ONLY), ())
    assert set(described["/api/ruled/{label_id}/"]) == {"parameters", "get", "patch", "delete"}
    assert set(described["/api/read-only/"]) == {"get"}
    assert set(described["/api/read-only/{label_id}/"]) == {"parameters", "get"}


def test_a_write_is_admitted_before_its_values_are_looked_at(ruled: Caller) -> None:
    wrong = {"label_id": "", "note": "closed"}
    assert ruled.post("/api/ruled/", json=wrong).json() == {"detail": "created by ada: closed"}
    assert ruled.post("/api/ruled/", json={"label_id": "a"}).status == 201
    assert ruled.patch("/api/ruled/a/", json={"note": "closed"}).json()["note"] == "closed"
    assert ruled.patch("/api/ruled/a/", json={"note": 7}).json() == {"detail": "updated by ada: closed"}
    assert ruled.delete("/api/ruled/a/").json() == {"detail": "deleted by ada: closed"}
    assert ruled.get("/api/ruled/a/").status == 200


def test_a_rule_about_values_adds_errors_and_columns(ruled: Caller) -> None:
    both = ruled.post("/api/ruled/", json={"note": "wrong"})
    assert (both.status, both.json()) == (
        400,
        {"label_id": ["This field is required."], "note": ["It is wrong."]},
    )
    made = ruled.post("/api/ruled/", json={"label_id": "a", "note": "abc"})
    assert made.json() == {"label_id": "a", "note": "ABC", "length": 3}
    taken = ruled.post("/api/ruled/", json={"label_id": "a", "note": "wrong"})
    assert taken.json() == {"label_id": ["label with this label id already exists."], "note": ["It is wrong."]}
    assert ruled.patch("/api/ruled/a/", json={"note": "de", "length": 77}).json()["length"] == 2
    assert [(change.kind, change.by and change.by.subject) for change in CHANGES] == [
        ("created", "ada"),
        ("updated", "ada"),
    ]


def test_a_row_is_found_by_what_it_is_called(ruled: Caller) -> None:
    for name in ("alpha", "alto", "beta"):
        ruled.post("/api/ruled/", json={"label_id": name})
    assert ruled.get("/api/ruled/b/").json()["label_id"] == "beta"
    assert ruled.patch("/api/ruled/alp/", json={"note": "x"}).json()["label_id"] == "alpha"
    several = ruled.delete("/api/ruled/al/")
    assert (several.status, several.json()) == (409, {"detail": "2 rows"})
    assert ruled.delete("/api/ruled/alt/").status == 204
    assert len(ruled.get("/api/ruled/").json()) == 2


def test_a_name_is_shown_beside_the_key_that_is_sent(ruled: Caller) -> None:
    part = ruled.post("/api/parts/", json={"part_name": "axle"}).json()["id"]
    body = {
        "widget_name": "w",
        "owner": "ada",
        "kind": "bolt",
        "amount": 1,
        "started_at": "2026-05-05",
        "payload": 1,
        "part": part,
        "part_name": "ignored",
    }
    made = ruled.post("/api/named/", json=body)
    assert (made.status, made.json()["part"], made.json()["part_name"]) == (201, part, "axle")
    missing = ruled.post("/api/named/", json={**body, "widget_name": "v", "part": part + 1})
    assert missing.json() == {"part": [f'Invalid pk "{part + 1}" - object does not exist.']}
