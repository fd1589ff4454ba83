"""Whatever JSON somebody sends: never a server error, and what is answered 201 reads back equal."""

import json
import math
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import widgets
from .conftest import World
from .wire import Answer

EXAMPLES = settings(deadline=None, database=None, derandomize=True, max_examples=150)

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
# Values that some kind of field takes, so that more than refusals are tried.
LIKELY: st.SearchStrategy[Any] = st.sampled_from(
    [
        "bolt", "OK", "red", "", "1", "yes", "null", "2026-05-05T10:00:00Z", "2026-05-05", "http://h.org/", "10.0.0.1",
        "::ffff:10.0.0.1", "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9", "NaN", "1e3", "1_0", 0, 1, 10, 20, 1.0, 0.5, True,
        False, None, {}, [],
    ]
)  # fmt: skip
VALUES = JSON | LIKELY
NOT_UNIQUE = ["The fields part, slot must make a unique set."]
FIELDS = [field.name for field in widgets.WIDGETS.fields]


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; jsonb keeps the value of a number and not how it was spelled."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=0)
    return type(one) is type(other) and bool(one == other)


def is_sound(world: World, answer: Answer, sent: Any) -> None:
    """Check an answer to a POST of a widget."""
    assert answer.headers["content-type"] == "application/json"
    if answer.status != 201:
        assert answer.status == 400
        errors = answer.json()
        assert isinstance(errors, dict)
        assert errors
        for name, texts in errors.items():
            assert name in (*FIELDS, "non_field_errors")
            assert texts
            assert all(isinstance(text, str) for text in texts)
        assert errors.get("non_field_errors", NOT_UNIQUE) == NOT_UNIQUE or not isinstance(sent, dict)
        return
    row = answer.json()
    assert world.api.get(f"/api/widgets/{row['id']}/").body == answer.body
    for field in ("payload", "metadata", "options"):
        if field in sent:
            assert same(sent[field], row[field])
    for field in ("owner", "remark", "description", "hostname", "source", "home_url"):
        if isinstance(sent.get(field), str):
            assert row[field] == sent[field].strip()


@pytest.fixture(scope="module")
def part(world: World) -> dict[str, int]:
    """The key of a part that exists; a dictionary, as each test empties the tables before this is made."""
    return {}


def body(world: World, part: dict[str, int], **given: Any) -> dict[str, Any]:
    if not world.sql("SELECT 1 FROM part"):
        part["key"] = world.part()
    return world.body(part=part["key"], **given)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@EXAMPLES
@given(document=JSON)
def test_any_document_as_a_body(world: World, part: dict[str, int], method: str, document: Any) -> None:
    target = "/api/widgets/" if method == "POST" else "/api/widgets/999999/"
    answer = world.api.request(method, target, json=document)
    assert answer.status == (400 if method == "POST" else 404)
    if method == "POST":
        is_sound(world, answer, document)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@EXAMPLES
@given(content=st.binary(max_size=60))
def test_any_bytes_as_a_body(world: World, method: str, content: bytes) -> None:
    target = "/api/widgets/" if method == "POST" else "/api/widgets/999999/"
    for media_type in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=mark"):
        answer = world.api.request(method, target, content=content, content_type=media_type)
        assert answer.status == (400 if method == "POST" else 404)


@pytest.mark.parametrize("field", FIELDS)
@settings(EXAMPLES, max_examples=40)
@given(value=VALUES)
def test_any_value_in_each_field(world: World, part: dict[str, int], field: str, value: Any) -> None:
    sent = body(world, part) | {field: value}
    created = world.api.post("/api/widgets/", json=sent)
    is_sound(world, created, sent)
    if created.status == 400:
        allowed = {field} | ({"non_field_errors"} if field == "slot" else set())
        assert set(created.json()) <= allowed


@EXAMPLES
@given(values=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_any_values_in_several_fields(world: World, part: dict[str, int], values: dict[str, Any]) -> None:
    sent = body(world, part) | values
    is_sound(world, world.api.post("/api/widgets/", json=sent), sent)


@EXAMPLES
@given(values=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_values_in_a_patch(world: World, part: dict[str, int], values: dict[str, Any]) -> None:
    row = world.api.post("/api/widgets/", json=body(world, part)).json()
    target = f"/api/widgets/{row['id']}/"
    answer = world.api.patch(target, json=values)
    stored = world.api.get(target).json()
    if answer.status == 200:
        assert stored == answer.json()
        untouched = set(FIELDS) - set(values) - {"updated_at"}
        assert {name: stored[name] for name in untouched} == {name: row[name] for name in untouched}
    else:
        assert answer.status == 400
        allowed = set(values) | ({"non_field_errors"} if {"slot", "part"} & set(values) else set())
        assert set(answer.json()) <= allowed
        assert stored == row


@EXAMPLES
@given(value=JSON)
def test_any_json_that_can_be_stored_reads_back_equal(world: World, part: dict[str, int], value: Any) -> None:
    answer = world.api.post("/api/widgets/", json=body(world, part, payload=[value], metadata={"v": value}))
    text = json.dumps(value, ensure_ascii=False)
    storable = "\\u0000" not in text.replace("\\\\", "") and not any("\ud800" <= each <= "\udfff" for each in text)
    assert answer.status == (201 if storable else 400), answer
    if storable:
        assert same(answer.json()["payload"], [value])
        assert same(answer.json()["metadata"], {"v": value})


@EXAMPLES
@given(key=st.text(st.characters(exclude_categories=()), min_size=1, max_size=12))
def test_any_text_as_a_key(world: World, key: str) -> None:
    answer = world.api.post("/api/labels/", json={"label_id": key})
    if answer.status == 400:
        assert set(answer.json()) == {"label_id"}
        return
    assert answer.status == 201
    stored = answer.json()["label_id"]
    assert stored == key.strip()
    target = "/api/labels/" + "".join(f"%{byte:02X}" for byte in stored.encode()) + "/"
    assert world.api.get(target).body == answer.body
    assert world.api.delete(target).status == 204


@EXAMPLES
@given(
    form=st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=20) | LIKELY.map(str), max_size=6),
    kind=st.sampled_from(["form", "multipart"]),
)
def test_any_texts_in_a_form(world: World, part: dict[str, int], form: dict[str, str], kind: str) -> None:
    required = {key: value if isinstance(value, str) else json.dumps(value) for key, value in body(world, part).items()}
    answer = world.api.post("/api/widgets/", **{kind: required | form})
    assert answer.status in (201, 400)
    if answer.status == 201:
        assert world.api.get(f"/api/widgets/{answer.json()['id']}/").body == answer.body
    elif "detail" not in answer.json():
        assert set(answer.json()) <= {*form, "non_field_errors"}


@EXAMPLES
@given(
    query=st.dictionaries(
        st.sampled_from(["amount", "owner", "limit", "cursor", "start_time", "format"]), st.text(max_size=8)
    )
)
def test_any_query(world: World, query: dict[str, str]) -> None:
    for path in ("/api/widgets/", "/api/journal/", "/api/labels/"):
        assert world.api.get(f"{path}?{urlencode(query, errors='replace')}").status in (200, 400, 404)
