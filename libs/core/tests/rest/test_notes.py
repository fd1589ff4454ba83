"""What a resource may declare beyond the contract: tags of rows, keys of a form, a lookup, values that follow."""

import pytest

from . import widgets
from .conftest import World

URL = "/api/notes/"


def test_a_row_has_a_tag_which_changes_with_it(world: World) -> None:
    world.api.post(URL, json={"label_id": "a", "note": "x"})
    first = world.api.get(f"{URL}a/").headers["etag"]
    assert world.api.get(f"{URL}a/").headers["etag"] == first
    changed = world.api.patch(f"{URL}a/", json={"note": "y"})
    assert changed.headers["etag"] == world.api.get(f"{URL}a/").headers["etag"] != first
    assert "etag" not in world.api.get("/api/labels/a/").headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_write_of_another_state_than_the_one_named_is_refused_and_changes_nothing(world: World, method: str) -> None:
    world.api.post(URL, json={"label_id": "a", "note": "x"})
    tag = world.api.get(f"{URL}a/").headers["etag"]
    body = None if method == "DELETE" else {"label_id": "a", "note": "y"}
    for other in ('"0"', f"W/{tag}", '""'):
        headers = {"If-Match": other}
        refused = world.api.request(method, f"{URL}a/", json=body, headers=headers)
        assert (refused.status, refused.json()) == (412, {"detail": "The row is not what If-Match names."}), other
    assert world.api.get(f"{URL}a/").json()["note"] == "x"
    assert world.api.request(method, f"{URL}a/", json=body, headers={"If-Match": f'"0", {tag}'}).status in (200, 204)


def test_any_state_may_be_named(world: World) -> None:
    world.api.post(URL, json={"label_id": "a"})
    assert world.api.patch(f"{URL}a/", json={"note": "y"}, headers={"If-Match": "*"}).status == 200
    assert world.api.patch(f"{URL}b/", json={}, headers={"If-Match": "*"}).status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_key_that_is_absent_and_looks_like_none_is_400(world: World, method: str) -> None:
    body: dict[str, str] | None = None if method == "GET" else {}
    assert world.api.request(method, f"{URL}abc/", json=body).status == 404
    wrong = world.api.request(method, f"{URL}ABC/", json=body)
    assert wrong.status == 400
    assert wrong.json() == {"detail": "There is no note with this label id, nor can there be."}
    world.api.post(URL, json={"label_id": "ABC"})
    assert world.api.get(f"{URL}ABC/").status == 200


def test_values_follow_from_others_and_are_refused_like_given_ones(world: World) -> None:
    assert world.api.post(URL, json={"label_id": "a"}).json()["note"] == "about a"
    refused = world.api.post(URL, json={"label_id": "b", "note": "forbidden"})
    assert (refused.status, refused.json()) == (400, {"note": ["This note is forbidden."]})
    assert world.api.patch(f"{URL}a/", json={"note": "forbidden"}).status == 400
    assert [row.label_id for row in world.sql(widgets.label.select())] == ["a"]


def test_a_lookup_has_an_order_of_its_own_and_pages_have_that_of_the_list(world: World) -> None:
    for name in ("b", "a", "c"):
        world.api.post(URL, json={"label_id": name, "note": "x"})
    world.api.post(URL, json={"label_id": "d", "note": "y"})
    assert [row["label_id"] for row in world.api.get(f"{URL}?note=x").json()] == ["c", "b", "a"]
    assert [row["label_id"] for row in world.api.get(f"{URL}?note=").json()] == ["a", "b", "c", "d"]
    assert [row["label_id"] for row in world.api.get(f"{URL}?note=x&limit=2").json()["results"]] == ["a", "b"]
