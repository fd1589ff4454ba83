"""Contract 2.2, corrections 18.3 and 18.11: what a body may be, in JSON and in forms."""

import json
from typing import Any

import pytest

from .conftest import World
from .wire import Caller

TARGETS = [("POST", "/api/widgets/"), ("PUT", "/api/widgets/{id}/"), ("PATCH", "/api/widgets/{id}/")]


def send(world: World, method: str, target: str, **request: Any) -> Any:
    """Send to the list, or to a row that exists."""
    if "{id}" in target:
        target = target.format(id=world.widget()["id"])
    return world.api.request(method, target, **request)


@pytest.mark.parametrize(("method", "target"), TARGETS)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"null", "No data provided"),
        (b'"a"', "Invalid data. Expected a dictionary, but got str."),
        (b"5", "Invalid data. Expected a dictionary, but got int."),
        (b"1.5", "Invalid data. Expected a dictionary, but got float."),
        (b"true", "Invalid data. Expected a dictionary, but got bool."),
        (b"[]", "Invalid data. Expected a dictionary, but got list."),
        (b'[{"widget_name":"a"}]', "Invalid data. Expected a dictionary, but got list."),
    ],
)
def test_a_body_that_is_no_object(world: World, method: str, target: str, body: bytes, expected: str) -> None:
    answer = send(world, method, target, content=body, content_type="application/json")
    assert (answer.status, answer.json()) == (400, {"non_field_errors": [expected]})


@pytest.mark.parametrize(("method", "target"), TARGETS)
@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/plain; charset=utf-8",
        "application/xml",
        "application/json-patch+json",
        "application/vnd.api+json",
    ],
)
def test_another_media_type_is_415_and_named_whole(world: World, method: str, target: str, media_type: str) -> None:
    answer = send(world, method, target, content=b'{"amount":1}', content_type=media_type)
    assert answer.status == 415
    assert answer.text == f'{{"detail":"Unsupported media type \\"{media_type}\\" in request."}}'
    assert answer.headers["content-type"] == "application/json"


def test_a_body_without_content_type_is_415(api: Caller) -> None:
    answer = api.post("/api/widgets/", content=b"{}")
    assert (answer.status, answer.json()) == (415, {"detail": 'Unsupported media type "" in request.'})


@pytest.mark.parametrize("media_type", ["json", ";;;", "/", "application/json/x", "\xff\xfe", "multipart/", "*/*"])
def test_a_strange_content_type_is_415(api: Caller, media_type: str) -> None:
    assert api.post("/api/widgets/", content=b"{}", content_type=media_type).status == 415


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=UTF-8"]
)
def test_json_may_be_spelled_with_parameters_and_in_any_case(world: World, media_type: str) -> None:
    body = json.dumps(world.body(owner="Jürgen"), ensure_ascii=False).encode()
    answer = world.api.post("/api/widgets/", content=body, content_type=media_type)
    assert (answer.status, answer.json()["owner"]) == (201, "Jürgen")


@pytest.mark.parametrize(
    "media_type",
    [None, "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=mark"],
)
def test_an_empty_body_of_any_type_is_an_empty_object(world: World, media_type: str | None) -> None:
    created = world.api.post("/api/widgets/", content_type=media_type)
    assert created.status == 400
    assert created.json()["owner"] == ["This field is required."]
    row = world.widget()
    patched = world.api.patch(f"/api/widgets/{row['id']}/", content_type=media_type)
    assert patched.status == 200
    assert patched.json() == row | {"updated_at": patched.json()["updated_at"]}


@pytest.mark.parametrize(("method", "target"), TARGETS)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{]",
        b"nope",
        b" ",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":1}x',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{",
        b'{"a":"\x01"}',
        b'{"a":01}',
        b"\x00",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"1" * 5_000 + b"]}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bad_json_is_400(world: World, method: str, target: str, body: bytes) -> None:
    answer = send(world, method, target, content=body, content_type="application/json")
    assert answer.status == 400
    assert list(answer.json()) == ["detail"]
    assert answer.json()["detail"].startswith("JSON parse error - ")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ['{{"fraction":{}}}', "{}", '{{"payload":[{{"a":{}}}]}}'])
def test_literals_that_are_no_json(api: Caller, literal: str, around: str) -> None:
    answer = api.post("/api/widgets/", content=around.format(literal).encode(), content_type="application/json")
    expected = f"JSON parse error - Out of range float values are not JSON compliant: '{literal}'"
    assert (answer.status, answer.json()) == (400, {"detail": expected})


def test_a_text_that_looks_like_such_a_literal_is_a_text(world: World) -> None:
    assert world.widget(owner="NaN", payload="Infinity")["owner"] == "NaN"


@pytest.mark.parametrize("field", ["fraction", "payload", "amount", "owner", "part", "is_active", "level"])
@pytest.mark.parametrize("literal", [b"1e400", b"-1e400", b"1e999999999", b"9" * 5000])
def test_a_number_beyond_every_type_is_400(world: World, field: str, literal: bytes) -> None:
    body = json.dumps(world.body() | {field: "@"}).encode().replace(b'"@"', literal)
    answer = world.api.post("/api/widgets/", content=body, content_type="application/json")
    assert answer.status == 400
    assert answer.json().keys() in ({field}, {"detail"})


@pytest.mark.parametrize("document", ['"\\u0000"', '{"\\u0000":1}', '["\\ud800"]', '{"\\udfff":[]}'])
@pytest.mark.parametrize("field", ["payload", "metadata", "options"])
def test_json_that_the_database_cannot_hold_is_400(world: World, field: str, document: str) -> None:
    body = json.dumps(world.body() | {field: "@"}).replace('"@"', document).encode()
    answer = world.api.post("/api/widgets/", content=body, content_type="application/json")
    assert answer.status == 400
    assert list(answer.json()) == [field]


@pytest.mark.parametrize("depth", [50, 200, 450, 900, 990, 2000, 5000, 50_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_refused_or_can_be_read_again(world: World, depth: int, opening: str, closing: str) -> None:
    document = opening * depth + "1" + closing * depth
    body = json.dumps(world.body() | {"payload": "@"}).replace('"@"', document).encode()
    created = world.api.post("/api/widgets/", content=body, content_type="application/json")
    assert created.status in (201, 400)
    assert world.api.get("/api/widgets/").status == 200
    if created.status == 201:
        assert document.encode() in created.body
        assert document.encode() in world.api.get("/api/widgets/").body
    assert depth > 200 or created.status == 201


def test_of_a_repeated_json_key_the_last_wins(api: Caller) -> None:
    body = b'{"label_id":"a","note":"first","note":"last"}'
    assert api.post("/api/labels/", content=body, content_type="application/json").json()["note"] == "last"


# ---- Forms ----


def as_form(body: dict[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}


@pytest.mark.parametrize("kind", ["form", "multipart"])
class TestForms:
    def test_a_form_creates_what_json_creates(self, world: World, kind: str) -> None:
        body = world.body(is_active=True, metadata=[1, {"b": None}], level=20, fraction=0.5, remark="grün & +", slot=4)
        answer = world.api.post("/api/widgets/", **{kind: as_form(body)})
        assert answer.status == 201, answer
        created = answer.json()
        for key, value in body.items():
            assert created[key] == value, key

    def test_an_absent_boolean_is_false_and_an_absent_nullable_one_is_null(self, world: World, kind: str) -> None:
        created = world.api.post("/api/widgets/", **{kind: as_form(world.body())}).json()
        assert (created["is_active"], created["is_good"]) == (False, None)
        assert (created["weight"], created["source"], created["status"]) == (1.5, "physics", "UNKNOWN")

    def test_put_resets_absent_booleans_only(self, world: World, kind: str) -> None:
        row = world.widget(is_active=True, is_good=True, grade=7, remark="kept")
        changed = world.api.put(f"/api/widgets/{row['id']}/", **{kind: as_form(world.body())}).json()
        assert (changed["is_active"], changed["is_good"]) == (False, None)
        assert (changed["grade"], changed["remark"]) == (7, "kept")

    def test_patch_keeps_absent_booleans(self, world: World, kind: str) -> None:
        row = world.widget(is_active=True, is_good=True)
        changed = world.api.patch(f"/api/widgets/{row['id']}/", **{kind: {"amount": "5"}}).json()
        assert (changed["is_active"], changed["is_good"], changed["amount"]) == (True, True, 5)

    def test_an_empty_value_is_null_where_nullable_else_left_out(self, world: World, kind: str) -> None:
        empty = dict.fromkeys(
            ("pid", "thread", "ended_at", "batch_id", "client_ip", "fraction", "crate", "named_part"), ""
        )
        left_out = dict.fromkeys(("grade", "weight", "level", "status"), "")
        answer = world.api.post("/api/widgets/", **{kind: as_form(world.body()) | empty | left_out})
        assert answer.status == 201, answer
        created = answer.json()
        assert {key: created[key] for key in empty} == dict.fromkeys(empty)
        assert {key: created[key] for key in left_out} == {"grade": 5, "weight": 1.5, "level": 0, "status": "UNKNOWN"}

    def test_an_empty_text_stays_one_where_blank_is_allowed(self, world: World, kind: str) -> None:
        form = as_form(world.body()) | {"description": "", "hostname": "", "home_url": "", "remark": ""}
        created = world.api.post("/api/widgets/", **{kind: form}).json()
        assert (created["description"], created["hostname"], created["home_url"]) == ("", "", "")
        assert created["remark"] is None

    @pytest.mark.parametrize("field", ["owner", "amount", "started_at", "kind", "part"])
    def test_an_empty_required_value_is_refused(self, world: World, kind: str, field: str) -> None:
        answer = world.api.post("/api/widgets/", **{kind: as_form(world.body()) | {field: ""}})
        assert answer.status == 400
        assert list(answer.json()) == [field]

    @pytest.mark.parametrize("text", ["", "{", "nope", "{'a':1}"])
    @pytest.mark.parametrize("field", ["payload", "metadata", "options"])
    def test_json_in_a_form_must_parse(self, world: World, kind: str, field: str, text: str) -> None:
        answer = world.api.post("/api/widgets/", **{kind: as_form(world.body()) | {field: text}})
        assert (answer.status, answer.json()) == (400, {field: ["Value must be valid JSON."]})

    @pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e400", "[" * 100_000, '"\\u0000"', '"\\ud800"'])
    def test_json_in_a_form_that_cannot_be_held_is_400(self, world: World, kind: str, text: str) -> None:
        answer = world.api.post("/api/widgets/", **{kind: as_form(world.body()) | {"metadata": text}})
        assert answer.status == 400
        assert list(answer.json()) == ["metadata"]

    def test_missing_and_wrong_values_have_the_same_strings(self, world: World, kind: str) -> None:
        form = as_form(world.body()) | {"amount": "x", "level": "25", "is_good": "maybe"}
        del form["owner"]
        answer = world.api.post("/api/widgets/", **{kind: form})
        assert answer.status == 400
        assert answer.json() == {
            "owner": ["This field is required."],
            "level": ['"25" is not a valid choice.'],
            "amount": ["A valid integer is required."],
            "is_good": ["Must be a valid boolean."],
        }


def test_of_a_repeated_form_key_the_last_wins(api: Caller) -> None:
    form = [("label_id", "a"), ("note", "first"), ("note", "last")]
    assert api.post("/api/labels/", form=form).json()["note"] == "last"
    parts = "".join(
        f'--mark\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in [("label_id", "b"), ("note", "first"), ("note", "last")]
    )
    body = f"{parts}--mark--\r\n".encode()
    answer = api.post("/api/labels/", content=body, content_type="multipart/form-data; boundary=mark")
    assert (answer.status, answer.json()) == (201, {"label_id": "b", "note": "last"})


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("multipart/form-data", b"--mark--\r\n"),
        ("multipart/form-data; boundary=", b"--mark--\r\n"),
        ("multipart/form-data; boundary=mark", b"nothing of the kind"),
        ("multipart/form-data; boundary=mark", b'--mark\r\nContent-Disposition: form-data; name="label_id"\r\n\r\na'),
        ("multipart/form-data; boundary=mark", b"--mark\r\n\r\n\r\n--mark--\r\n"),
        ("multipart/form-data; boundary=mark", b"--mark\r\nContent-Disposition: form-data\r\n\r\na\r\n--mark--\r\n"),
        ("multipart/form-data; boundary=m\xe4rk", b"--mark--\r\n"),
        ("application/x-www-form-urlencoded", b"\xff\xfe=%ff%zz&&&=;"),
        ("application/x-www-form-urlencoded", b"label_id=%00"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % i for i in range(3000))),
    ],
)
def test_a_broken_form_is_400(api: Caller, media_type: str, body: bytes) -> None:
    assert api.post("/api/labels/", content=body, content_type=media_type).status == 400


def test_a_file_is_no_text(api: Caller) -> None:
    body = (
        b'--mark\r\nContent-Disposition: form-data; name="label_id"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--mark--\r\n"
    )
    answer = api.post("/api/labels/", content=body, content_type="multipart/form-data; boundary=mark")
    assert answer.status == 400
    assert list(answer.json()) == ["label_id"]
