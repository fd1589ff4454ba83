"""Contract 2.4: create, change, replace, delete, and what happens when two do it at once."""

import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sluice_core.testing import eventually

from . import widgets
from .conftest import World
from .widgets import HookBroke
from .wire import Answer, Caller

TAKEN = {"widget_name": ["widget with this widget name already exists."]}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def blocked(world: World) -> int:
    """Return how many connections of the door wait for a lock."""
    rows = world.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'rest-tests' AND wait_event_type = 'Lock'"
    )
    return int(rows[0][0])


@contextlib.contextmanager
def held(world: World, statement: str, **values: Any) -> Iterator[sa.Connection]:
    """Run a statement in a transaction that stays open; whoever enters decides how it ends."""
    with world.engine.connect() as connection:
        connection.execute(sa.text(statement), values)
        yield connection
        connection.rollback()


# ---- One at a time ----


def test_post_answers_the_whole_object_and_no_location(world: World) -> None:
    answer = world.api.post("/api/widgets/", json=world.body())
    assert answer.status == 201
    assert list(answer.json()) == [field.name for field in widgets.WIDGETS.fields]
    assert "location" not in answer.headers
    assert world.api.get(f"/api/widgets/{answer.json()['id']}/").json() == answer.json()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_unknown_and_read_only_keys_are_ignored_whatever_they_hold(world: World, method: str) -> None:
    ignored = {"id": 5, "created_at": "garbage", "updated_at": None, "nope": [1], "": {}, "part_id": 7, "pk": "x" * 999}
    if method == "POST":
        answer, before = world.api.post("/api/widgets/", json=world.body() | ignored), None
    else:
        before = world.widget()
        answer = world.api.request(method, f"/api/widgets/{before['id']}/", json=world.body() | ignored)
    assert answer.status in (200, 201), answer
    row = answer.json()
    assert "nope" not in row
    assert row["id"] != 5
    assert datetime.fromisoformat(row["created_at"]).tzinfo is not None
    if before is not None:
        assert (row["id"], row["created_at"]) == (before["id"], before["created_at"])


def test_a_read_only_uuid_key_is_made_by_the_server(api: Caller) -> None:
    wanted = str(uuid4())
    created = api.post("/api/crates/", json={"crate_id": wanted, "colour": "red"}).json()
    assert created["crate_id"] != wanted
    changed = api.patch(f"/api/crates/{created['crate_id']}/", json={"crate_id": wanted})
    assert (changed.status, changed.json()) == (200, created)


def test_automatic_times_are_the_servers(world: World) -> None:
    start = datetime.now(UTC).replace(microsecond=0)
    row = world.widget()
    created, updated = (datetime.fromisoformat(row[key]) for key in ("created_at", "updated_at"))
    assert start <= created <= datetime.now(UTC)
    assert start <= updated <= datetime.now(UTC)
    changed = world.api.patch(f"/api/widgets/{row['id']}/", json={"amount": 4}).json()
    assert changed["created_at"] == row["created_at"]
    assert datetime.fromisoformat(changed["updated_at"]) > updated


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owner", "bob"),
        ("remark", None),
        ("description", ""),
        ("kind", "nut"),
        ("level", 30),
        ("amount", 0),
        ("fraction", 0.125),
        ("is_active", False),
        ("is_good", None),
        ("started_at", "2027-01-01T00:00:00Z"),
        ("ended_at", None),
        ("home_url", ""),
        ("batch_id", None),
        ("client_ip", "::1"),
        ("payload", []),
        ("metadata", None),
        ("options", {"b": 2}),
        ("crate", None),
        ("named_part", None),
    ],
)
def test_patch_changes_the_given_key_and_no_other(world: World, field: str, value: Any) -> None:
    world.part("bolt")
    row = world.widget(
        named_part="bolt",
        remark="r",
        description="d",
        hostname="h",
        source="s",
        status="OK",
        hue="red",
        level=20,
        grade=9,
        pid=1,
        thread=2,
        slot=3,
        fraction=0.5,
        is_good=True,
        ended_at="2026-05-06T10:00:00Z",
        home_url="http://h.org/",
        batch_id=str(uuid4()),
        client_ip="10.0.0.1",
        metadata={"a": 1},
        options={"a": 1},
        crate=str(world.crate()),
    )
    changed = world.api.patch(f"/api/widgets/{row['id']}/", json={field: value})
    assert changed.status == 200
    assert changed.json() == row | {field: value, "updated_at": changed.json()["updated_at"]}
    assert world.api.get(f"/api/widgets/{row['id']}/").json() == changed.json()


def test_a_patch_of_nothing_changes_nothing(world: World) -> None:
    row = world.widget()
    for body in ({}, {"nope": 1}, {"id": 77}):
        changed = world.api.patch(f"/api/widgets/{row['id']}/", json=body)
        assert changed.status == 200
        assert changed.json() == row | {"updated_at": changed.json()["updated_at"]}
    assert world.api.patch("/api/labels/none/", json={}).status == 404
    world.api.post("/api/labels/", json={"label_id": "a", "note": "n"})
    assert world.api.patch("/api/labels/a/", json={}).json() == {"label_id": "a", "note": "n"}


def test_put_needs_all_required_keys_and_keeps_absent_optional_ones(world: World) -> None:
    row = world.widget(remark="kept", grade=9, status="OK", metadata={"a": 1}, is_active=False, is_good=True)
    target = f"/api/widgets/{row['id']}/"
    required = ("widget_name", "owner", "kind", "amount", "started_at", "payload", "part")
    refused = world.api.put(target, json={})
    assert (refused.status, refused.json()) == (400, {name: ["This field is required."] for name in required})

    body = world.body(owner="bob", part=row["part"])
    changed = world.api.put(target, json=body)
    assert changed.status == 200
    expected = row | body | {"updated_at": changed.json()["updated_at"]}
    assert changed.json() == expected


def test_delete_is_204_with_no_body_and_then_404(world: World) -> None:
    row, other = world.widget(), world.widget()
    target = f"/api/widgets/{row['id']}/"
    first, second = world.api.delete(target), world.api.delete(target)
    assert (first.status, first.body) == (204, b"")
    assert (second.status, second.json()) == (404, {"detail": "No Widget matches the given query."})
    assert [each["id"] for each in world.api.get("/api/widgets/").json()] == [other["id"]]


def test_delete_does_not_look_at_the_body(world: World) -> None:
    row = world.widget()
    assert world.api.delete(f"/api/widgets/{row['id']}/", content=b"{", content_type="text/plain").status == 204


def test_delete_cascades_as_the_tables_say(world: World) -> None:
    part, named, crate = world.part(), world.part("named"), str(world.crate())
    of_part = world.widget(part=part, crate=crate)
    of_name = world.widget(named_part="named", crate=crate)

    assert world.api.delete(f"/api/parts/{part}/").status == 204
    assert world.api.get(f"/api/widgets/{of_part['id']}/").status == 404

    assert world.api.delete(f"/api/parts/{named}/").status == 204
    assert world.api.get(f"/api/widgets/{of_name['id']}/").json()["named_part"] is None

    assert world.api.delete(f"/api/crates/{crate}/").status == 204
    assert world.api.get("/api/widgets/").json() == []


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("path", "key", "first", "other", "same"),
    [
        ("/api/labels/", "label_id", "one", "two", " one "),
        ("/api/steps/", "step_number", 1, 2, "1"),
    ],
)
def test_a_primary_key_cannot_be_changed(
    api: Caller, method: str, path: str, key: str, first: Any, other: Any, same: Any
) -> None:
    api.post(path, json={key: first, "note": "n"})
    target = f"{path}{first}/"

    refused = api.request(method, target, json={key: other, "note": "changed"})
    assert refused.status == 400
    assert list(refused.json()) == [key]
    assert api.get(path).json() == [{key: first, "note": "n"}]

    for unchanged in (first, same):
        kept = api.request(method, target, json={key: unchanged, "note": "m"})
        assert (kept.status, kept.json()) == (200, {key: first, "note": "m"})
    if method == "PUT":
        missing = api.put(target, json={"note": "m"})
        assert (missing.status, missing.json()) == (400, {key: ["This field is required."]})


# ---- Two at once ----


def test_of_concurrent_creates_of_one_unique_key_one_wins(world: World, pool: ThreadPoolExecutor) -> None:
    for _ in range(5):
        body = world.body()
        answers = list(pool.map(lambda b: world.api.post("/api/widgets/", json=b), [body] * 16))
        assert sorted(answer.status for answer in answers) == [201] + [400] * 15
        assert [answer.json() for answer in answers if answer.status == 400] == [TAKEN] * 15


def test_of_concurrent_creates_of_one_text_key_one_wins(api: Caller, pool: ThreadPoolExecutor) -> None:
    answers = list(pool.map(lambda n: api.post("/api/labels/", json={"label_id": "a", "note": str(n)}), range(16)))
    assert sorted(answer.status for answer in answers) == [201] + [400] * 15
    refused = [answer.json() for answer in answers if answer.status == 400]
    assert refused == [{"label_id": ["label with this label id already exists."]}] * 15


def test_of_concurrent_creates_of_one_unique_set_one_wins(world: World, pool: ThreadPoolExecutor) -> None:
    part = world.part()
    bodies = [world.body(part=part, slot=1) for _ in range(16)]
    answers = list(pool.map(lambda body: world.api.post("/api/widgets/", json=body), bodies))
    assert sorted(answer.status for answer in answers) == [201] + [400] * 15
    refused = [answer.json() for answer in answers if answer.status == 400]
    assert refused == [{"non_field_errors": ["The fields part, slot must make a unique set."]}] * 15


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("stays", [True, False])
def test_a_unique_value_that_somebody_is_about_to_take(
    world: World, pool: ThreadPoolExecutor, method: str, stays: bool
) -> None:
    """Past every check, a second transaction holds the value: the answer waits for how that one ends."""
    row, part = world.widget(), world.part()
    taken = (
        "INSERT INTO widget (widget_name, owner, description, source, kind, status, level, amount, grade, weight,"
        " is_active, started_at, created_at, updated_at, payload, options, part_id) VALUES ('taken', 'x', '', '', '',"
        " '', 0, 0, 1, 0, true, now(), now(), now(), '{}', '{}', :part)"
    )
    target = "/api/widgets/" if method == "POST" else f"/api/widgets/{row['id']}/"
    with held(world, taken, part=part) as other:
        answer = pool.submit(world.api.request, method, target, json=world.body(widget_name="taken"))
        eventually(lambda: blocked(world) == 1)
        if stays:
            other.commit()
        else:
            other.rollback()
    if stays:
        assert (answer.result().status, answer.result().json()) == (400, TAKEN)
    else:
        assert answer.result().status == (201 if method == "POST" else 200)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("field", ["part", "named_part", "crate"])
def test_a_relation_that_goes_away_meanwhile_is_a_400(
    world: World, pool: ThreadPoolExecutor, method: str, field: str
) -> None:
    key = world.part("going")
    crate = world.crate()
    value, statement, expected = {
        "part": (key, "DELETE FROM part WHERE id = :key", f'Invalid pk "{key}" - object does not exist.'),
        "named_part": ("going", "DELETE FROM part WHERE id = :key", "Object with part_name=going does not exist."),
        "crate": (
            str(crate),
            "DELETE FROM crate WHERE crate_id = :key",
            f'Invalid pk "{crate}" - object does not exist.',
        ),
    }[field]
    target = "/api/widgets/" if method == "POST" else f"/api/widgets/{world.widget()['id']}/"
    body = world.body(**{field: value}) if method == "POST" else {field: value}
    with held(world, statement, key=crate if field == "crate" else key) as other:
        answer = pool.submit(world.api.request, method, target, json=body)
        eventually(lambda: blocked(world) == 1)
        other.commit()
    assert (answer.result().status, answer.result().json()) == (400, {field: [expected]})


def test_concurrent_patches_of_different_keys_both_survive(world: World, pool: ThreadPoolExecutor) -> None:
    row = world.widget(remark="old", grade=1)
    target = f"/api/widgets/{row['id']}/"
    with held(world, "SELECT 1 FROM widget WHERE id = :id FOR UPDATE", id=row["id"]) as other:
        answers = [pool.submit(world.api.patch, target, json=body) for body in ({"remark": "new"}, {"grade": 2})]
        eventually(lambda: blocked(world) == 2)
        other.rollback()
    assert [answer.result().status for answer in answers] == [200, 200]
    stored = world.api.get(target).json()
    assert (stored["remark"], stored["grade"]) == ("new", 2)


def test_a_put_keeps_what_a_concurrent_patch_wrote_to_another_key(world: World, pool: ThreadPoolExecutor) -> None:
    row = world.widget(remark="old")
    target = f"/api/widgets/{row['id']}/"
    put: Future[Answer]
    with held(world, "UPDATE widget SET remark = 'new' WHERE id = :id", id=row["id"]) as other:
        put = pool.submit(world.api.put, target, json=world.body(owner="bob"))
        eventually(lambda: blocked(world) == 1)
        other.commit()
    assert (put.result().status, put.result().json()["remark"]) == (200, "new")


@pytest.mark.parametrize(("method", "status"), [("PATCH", 404), ("PUT", 404), ("DELETE", 404)])
def test_a_row_that_goes_away_meanwhile_is_404(
    world: World, pool: ThreadPoolExecutor, method: str, status: int
) -> None:
    row = world.widget()
    with held(world, "DELETE FROM widget WHERE id = :id", id=row["id"]) as other:
        answer = pool.submit(world.api.request, method, f"/api/widgets/{row['id']}/", json=world.body())
        eventually(lambda: blocked(world) == 1)
        other.commit()
    assert (answer.result().status, answer.result().json()) == (
        status,
        {"detail": "No Widget matches the given query."},
    )


def test_of_concurrent_deletes_one_is_204(world: World, pool: ThreadPoolExecutor) -> None:
    target = f"/api/widgets/{world.widget()['id']}/"
    answers = list(pool.map(world.api.delete, [target] * 8))
    assert sorted(answer.status for answer in answers) == [204] + [404] * 7


def test_a_storm_of_requests_gets_nothing_but_answers_of_the_contract(world: World, pool: ThreadPoolExecutor) -> None:
    parts = [world.part(f"part-{n}") for n in range(3)]
    chance = random.Random(1)
    keys = [world.widget(widget_name=f"w{n}", part=parts[n % 3])["id"] for n in range(6)]

    def call(number: int) -> tuple[str, int]:
        key, part = chance.choice(keys), chance.choice(parts)
        body = world.body(widget_name=f"w{chance.randrange(6)}", part=part, slot=chance.choice([None, 1, 2]))
        match chance.choice(["POST", "PUT", "PATCH", "DELETE", "PART", "LIST", "PAGE"]):
            case "POST":
                return "POST", world.api.post("/api/widgets/", json=body).status
            case "PUT":
                return "PUT", world.api.put(f"/api/widgets/{key}/", json=body).status
            case "PATCH":
                patch = {"part": part, "slot": chance.choice([1, 2]), "named_part": f"part-{chance.randrange(4)}"}
                return "PATCH", world.api.patch(f"/api/widgets/{key}/", json=patch).status
            case "DELETE":
                return "DELETE", world.api.delete(f"/api/widgets/{key}/").status
            case "PART":
                if number % 20:
                    return "GET", world.api.get(f"/api/widgets/{key}/").status
                return "DELETE", world.api.delete(f"/api/parts/{part}/").status
            case "LIST":
                return "LIST", world.api.get("/api/widgets/").status
            case _:
                return "LIST", world.api.get(f"/api/widgets/?limit=2&part={part}").status

    seen = set(pool.map(call, range(600)))
    assert seen <= {
        *(("POST", status) for status in (201, 400)),
        *((method, status) for method in ("PUT", "PATCH") for status in (200, 400, 404)),
        *(("DELETE", status) for status in (204, 404)),
        *(("GET", status) for status in (200, 404)),
        ("LIST", 200),
    }
    assert world.database.in_use == 0


# ---- on_change ----


def history(world: World) -> list[tuple[str, str | None, str | None]]:
    return [tuple(row) for row in world.sql("SELECT kind, before, after FROM history ORDER BY id")]


def test_each_write_calls_the_hook_with_the_row_before_and_after(world: World) -> None:
    world.api.post("/api/labels/", json={"label_id": "a", "note": "one"})
    world.api.patch("/api/labels/a/", json={"note": "two"})
    world.api.put("/api/labels/a/", json={"label_id": "a", "note": "three"})
    world.api.get("/api/labels/a/")
    world.api.delete("/api/labels/a/")
    assert history(world) == [
        ("created", None, "one"),
        ("updated", "one", "two"),
        ("updated", "two", "three"),
        ("deleted", "three", None),
    ]


def test_what_is_refused_calls_no_hook(world: World) -> None:
    world.api.post("/api/labels/", json={"label_id": "a", "note": "one"})
    before = history(world)
    assert world.api.post("/api/labels/", json={"label_id": "a"}).status == 400
    assert world.api.post("/api/labels/", json={"note": "x"}).status == 400
    assert world.api.patch("/api/labels/a/", json={"note": []}).status == 400
    assert world.api.patch("/api/labels/none/", json={"note": "x"}).status == 404
    assert world.api.delete("/api/labels/none/").status == 404
    assert world.anonymous.delete("/api/labels/a/").status == 403
    assert history(world) == before


def test_a_hook_that_raises_takes_the_write_with_it(world: World) -> None:
    with pytest.raises(HookBroke):
        world.api.post("/api/labels/", json={"label_id": "a", "note": "cursed"})
    assert (world.api.get("/api/labels/").json(), history(world)) == ([], [])

    world.api.post("/api/labels/", json={"label_id": "a", "note": "eternal"})
    with pytest.raises(HookBroke):
        world.api.patch("/api/labels/a/", json={"note": "x"})
    with pytest.raises(HookBroke):
        world.api.delete("/api/labels/a/")
    assert world.api.get("/api/labels/").json() == [{"label_id": "a", "note": "eternal"}]
    assert history(world) == [("created", None, "eternal")]


def test_a_refused_write_leaves_no_connection_behind(world: World) -> None:
    for _ in range(world.database.pool_size * 3):
        world.api.post("/api/labels/", json={"label_id": "\x00"})
        world.api.patch("/api/labels/none/", json={})
        with contextlib.suppress(HookBroke):
            world.api.post("/api/labels/", json={"label_id": "a", "note": "cursed"})
    assert world.database.in_use == 0
