"""A caller with namespaces writes only rows that lie in one of them, before and after; he reads as everybody does."""

from typing import Any

import pytest

from . import widgets
from .conftest import World
from .wire import Answer, Caller

DENIED = {"detail": "You do not have permission to perform this action."}


@pytest.fixture
def nina(world: World) -> Caller:
    """May write n1 and n2."""
    return world.api.with_token("nina")


def berth(world: World, name: str, namespace: str) -> str:
    assert world.api.post("/api/berths/", json={"label_id": name, "note": namespace}).status == 201
    return f"/api/berths/{name}/"


def stored(world: World) -> dict[str, str]:
    return {row.label_id: row.note for row in world.sql(widgets.label.select())}


def denied(answer: Answer) -> bool:
    return (answer.status, answer.json()) == (403, DENIED)


@pytest.mark.parametrize("namespace", ["n1", "n2"])
def test_rows_of_his_namespaces_are_his_to_write(world: World, nina: Caller, namespace: str) -> None:
    target = "/api/berths/a/"
    assert nina.post("/api/berths/", json={"label_id": "a", "note": namespace}).status == 201
    assert nina.put(target, json={"label_id": "a", "note": "n1"}).status == 200
    assert nina.patch(target, json={"note": "n2"}).status == 200
    assert nina.delete(target).status == 204
    assert stored(world) == {}


@pytest.mark.parametrize("row", [{"note": "n3"}, {"note": ""}, {}, {"note": "N1"}, {"note": "n1 x"}])
def test_no_row_is_made_elsewhere(world: World, nina: Caller, row: dict[str, Any]) -> None:
    assert denied(nina.post("/api/berths/", json={"label_id": "a", **row}))
    assert stored(world) == {}
    assert world.sql(widgets.history.select()) == []


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PUT", {"label_id": "a", "note": "n1"}),
        ("PATCH", {"note": "n1"}),
        ("PATCH", {}),
        ("PATCH", {"note": 5}),
        ("DELETE", None),
    ],
)
def test_no_row_of_elsewhere_is_touched_or_judged(
    world: World, nina: Caller, method: str, body: dict[str, Any] | None
) -> None:
    target = berth(world, "a", "n3")
    assert denied(nina.request(method, target, json=body))
    assert stored(world) == {"a": "n3"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_no_row_is_moved_out(world: World, nina: Caller, method: str) -> None:
    target = berth(world, "a", "n1")
    assert denied(nina.request(method, target, json={"label_id": "a", "note": "n3"}))
    assert stored(world) == {"a": "n1"}


def test_what_is_absent_is_absent_for_him_too(nina: Caller) -> None:
    assert nina.delete("/api/berths/nobody/").status == 404


def test_he_reads_everything(world: World, nina: Caller) -> None:
    target = berth(world, "a", "n3")
    assert nina.get(target).status == 200
    assert len(nina.get("/api/berths/").json()) == 1


def test_where_rows_have_no_namespace_the_scope_decides(nina: Caller) -> None:
    assert nina.post("/api/labels/", json={"label_id": "a", "note": "n3"}).status == 201


@pytest.mark.parametrize("token", ["ada", "root"])
def test_who_has_no_namespaces_writes_all(world: World, token: str) -> None:
    caller = world.api.with_token(token)
    assert caller.post("/api/berths/", json={"label_id": "a"}).status == 201
    assert caller.patch("/api/berths/a/", json={"note": "n3"}).status == 200
