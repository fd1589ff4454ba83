"""Contract 2.6: every row of its two tables."""

from typing import Any

import pytest

from .conftest import World
from .wire import ABSENT, Caller

DATETIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
UNKNOWN_UUID = "00000000-0000-4000-8000-000000000001"

# (case of the contract, field, value sent, string)
VALIDATION: list[tuple[str, str, Any, str]] = [
    ("missing required text", "owner", ABSENT, "This field is required."),
    ("missing required unique text", "widget_name", ABSENT, "This field is required."),
    ("missing required choice", "kind", ABSENT, "This field is required."),
    ("missing required integer", "amount", ABSENT, "This field is required."),
    ("missing required date-time", "started_at", ABSENT, "This field is required."),
    ("missing required JSON", "payload", ABSENT, "This field is required."),
    ("missing required FK", "part", ABSENT, "This field is required."),
    ("null text", "owner", None, "This field may not be null."),
    ("null optional text", "description", None, "This field may not be null."),
    ("null choice", "kind", None, "This field may not be null."),
    ("null integer choice", "level", None, "This field may not be null."),
    ("null integer", "amount", None, "This field may not be null."),
    ("null float", "weight", None, "This field may not be null."),
    ("null boolean", "is_active", None, "This field may not be null."),
    ("null date-time", "started_at", None, "This field may not be null."),
    ("null JSON, required", "payload", None, "This field may not be null."),
    ("null JSON, optional", "options", None, "This field may not be null."),
    ("null FK", "part", None, "This field may not be null."),
    ("empty required text", "owner", "", "This field may not be blank."),
    ("white space only", "owner", " \t\n ", "This field may not be blank."),
    ("empty optional text", "source", "", "This field may not be blank."),
    ("empty nullable text", "remark", "", "This field may not be blank."),
    ("too long", "owner", "x" * 51, "Ensure this field has no more than 50 characters."),
    ("too long, unique", "widget_name", "x" * 101, "Ensure this field has no more than 100 characters."),
    ("too long URL", "home_url", "http://h.org/" + "x" * 188, "Ensure this field has no more than 200 characters."),
    ("NUL char", "owner", "a\x00b", "Null characters are not allowed."),
    ("NUL char in unlimited text", "description", "\x00", "Null characters are not allowed."),
    ("surrogate (18.12)", "owner", "a\ud800", "Surrogate characters are not allowed: U+D800."),
    ("boolean as text", "owner", True, "Not a valid string."),
    ("array as text", "owner", ["a"], "Not a valid string."),
    ("object as text", "owner", {"a": 1}, "Not a valid string."),
    ("array as URL", "home_url", [], "Not a valid string."),
    ("text choice", "kind", "screw", '"screw" is not a valid choice.'),
    ("text choice, other case", "kind", "BOLT", '"BOLT" is not a valid choice.'),
    ("text choice, empty", "kind", "", '"" is not a valid choice.'),
    ("integer choice", "level", 25, '"25" is not a valid choice.'),
    ("integer choice as text", "level", "25", '"25" is not a valid choice.'),
    ("integer choice by name", "level", "INFO", '"INFO" is not a valid choice.'),
    ("integer", "amount", "abc", "A valid integer is required."),
    ("integer with a fraction", "amount", 1.5, "A valid integer is required."),
    ("integer text with a fraction", "amount", "1.5", "A valid integer is required."),
    ("empty integer", "amount", "", "A valid integer is required."),
    ("boolean as integer", "amount", True, "A valid integer is required."),
    ("array as integer", "amount", [1], "A valid integer is required."),
    ("object as integer", "amount", {}, "A valid integer is required."),
    ("float", "fraction", "abc", "A valid number is required."),
    ("empty float", "fraction", "", "A valid number is required."),
    ("array as float", "fraction", [1.0], "A valid number is required."),
    ("above 32 bits", "amount", 2**31, "Ensure this value is less than or equal to 2147483647."),
    ("below 32 bits", "amount", -(2**31) - 1, "Ensure this value is greater than or equal to -2147483648."),
    ("above 64 bits", "thread", 2**63, "Ensure this value is less than or equal to 9223372036854775807."),
    ("below 64 bits", "thread", -(2**63) - 1, "Ensure this value is greater than or equal to -9223372036854775808."),
    ("far above 64 bits", "thread", 10**30, "Ensure this value is less than or equal to 9223372036854775807."),
    ("above the stated range", "grade", 11, "Ensure this value is less than or equal to 10."),
    ("below the stated range", "grade", 0, "Ensure this value is greater than or equal to 1."),
    ("long integer text (18.5)", "amount", "1" * 1001, "String value too large."),
    ("long float text (18.5)", "fraction", "1" * 1001, "String value too large."),
    ("boolean", "is_active", "maybe", "Must be a valid boolean."),
    ("empty boolean", "is_active", "", "Must be a valid boolean."),
    ("boolean out of range", "is_active", 2, "Must be a valid boolean."),
    ("array as boolean", "is_active", [], "Must be a valid boolean."),
    ("object as boolean", "is_active", {}, "Must be a valid boolean."),
    ("nullable boolean", "is_good", "maybe", "Must be a valid boolean."),
    ("date-time", "started_at", "yesterday", DATETIME),
    ("empty date-time", "started_at", "", DATETIME),
    ("empty nullable date-time", "ended_at", "", DATETIME),
    ("number as date-time", "started_at", 20260505, DATETIME),
    ("boolean as date-time", "started_at", False, DATETIME),
    ("array as date-time", "started_at", [], DATETIME),
    ("compact date-time", "started_at", "20260505100000", DATETIME),
    ("URL", "home_url", "not a url", "Enter a valid URL."),
    ("URL without host", "home_url", "http://", "Enter a valid URL."),
    ("URL of another scheme", "home_url", "javascript:alert(1)", "Enter a valid URL."),
    ("number as URL", "home_url", 5, "Enter a valid URL."),
    ("UUID value", "batch_id", "zzz", "Must be a valid UUID."),
    ("empty UUID", "batch_id", "", "Must be a valid UUID."),
    ("array as UUID", "batch_id", [], "Must be a valid UUID."),
    ("IP", "client_ip", "10.0.0.256", "Enter a valid IPv4 or IPv6 address."),
    ("IP version 6", "client_ip", "fe80::1::2", "Enter a valid IPv4 or IPv6 address."),
    ("IP with a mask", "client_ip", "10.0.0.0/8", "Enter a valid IPv4 or IPv6 address."),
    ("FK absent", "part", 999999, 'Invalid pk "999999" - object does not exist.'),
    ("FK absent, beyond 32 bits", "part", 10**12, f'Invalid pk "{10**12}" - object does not exist.'),
    ("FK absent, beyond 64 bits", "part", 10**30, f'Invalid pk "{10**30}" - object does not exist.'),
    ("FK wrong type: text", "part", "abc", "Incorrect type. Expected pk value, received str."),
    ("FK wrong type: boolean", "part", True, "Incorrect type. Expected pk value, received bool."),
    ("FK wrong type: array", "part", [1], "Incorrect type. Expected pk value, received list."),
    ("FK wrong type: object", "part", {"id": 1}, "Incorrect type. Expected pk value, received dict."),
    ("UUID FK wrong type: boolean", "crate", True, "Incorrect type. Expected pk value, received bool."),
    ("UUID FK absent", "crate", UNKNOWN_UUID, f'Invalid pk "{UNKNOWN_UUID}" - object does not exist.'),
    ("UUID FK malformed", "crate", "zzz", "“zzz” is not a valid UUID."),
    ("UUID FK as integer (18.7)", "crate", 5, 'Invalid pk "5" - object does not exist.'),
    ("FK by filename absent", "named_part", "none.tf", "Object with part_name=none.tf does not exist."),
]


@pytest.mark.parametrize(
    ("method", "field", "value", "expected"),
    [
        pytest.param(method, field, value, expected, id=f"{method}-{case}")
        for case, field, value, expected in VALIDATION
        for method in ("POST", "PUT", "PATCH")
        if not (method == "PATCH" and value is ABSENT)
    ],
)
def test_each_refusal_has_the_string_of_the_contract(
    world: World, method: str, field: str, value: Any, expected: str
) -> None:
    if method == "PATCH":
        body, target = {field: value}, f"/api/widgets/{world.widget()['id']}/"
    else:
        body = world.body() | {field: value}
        if value is ABSENT:
            del body[field]
        target = "/api/widgets/" if method == "POST" else f"/api/widgets/{world.widget()['id']}/"
    before = world.sql("SELECT * FROM widget")

    answer = world.api.request(method, target, json=body)

    assert (answer.status, answer.json()) == (400, {field: [expected]})
    assert answer.headers["content-type"] == "application/json"
    assert world.sql("SELECT * FROM widget") == before


def test_every_bad_field_is_named_at_once(world: World) -> None:
    taken = world.widget(widget_name="taken")
    answer = world.api.post(
        "/api/widgets/",
        json={"widget_name": "taken", "amount": "x", "level": 25, "part": 999999, "payload": None, "named_part": "no"},
    )
    assert taken["widget_name"] == "taken"
    assert answer.status == 400
    assert answer.json() == {
        "widget_name": ["widget with this widget name already exists."],
        "owner": ["This field is required."],
        "kind": ["This field is required."],
        "amount": ["A valid integer is required."],
        "level": ['"25" is not a valid choice.'],
        "started_at": ["This field is required."],
        "payload": ["This field may not be null."],
        "part": ['Invalid pk "999999" - object does not exist.'],
        "named_part": ["Object with part_name=no does not exist."],
    }


def test_unique_field(world: World) -> None:
    world.widget(widget_name="one")
    for name in ("one", "  one  "):
        answer = world.api.post("/api/widgets/", json=world.body(widget_name=name))
        assert (answer.status, answer.json()) == (
            400,
            {"widget_name": ["widget with this widget name already exists."]},
        )
    assert world.count() == 1


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_unique_field_on_change(world: World, method: str) -> None:
    world.widget(widget_name="one")
    two = world.widget(widget_name="two")
    target = f"/api/widgets/{two['id']}/"
    body = world.body(widget_name="one") if method == "PUT" else {"widget_name": "one"}

    refused = world.api.request(method, target, json=body)
    own = world.api.request(method, target, json=body | {"widget_name": "two"})

    assert (refused.status, refused.json()) == (400, {"widget_name": ["widget with this widget name already exists."]})
    assert (own.status, own.json()["widget_name"]) == (200, "two")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/labels/", {"label_id": "a"}, {"label_id": ["label with this label id already exists."]}),
        ("/api/steps/", {"step_number": "7"}, {"step_number": ["step with this step number already exists."]}),
        ("/api/parts/", {"part_name": "bolt"}, {"part_name": ["part with this part name already exists."]}),
    ],
)
def test_unique_writable_key(api: Caller, path: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert api.post(path, json=body).status == 201
    again = api.post(path, json=body)
    assert (again.status, again.json()) == (400, expected)


def test_unique_together(world: World) -> None:
    part = world.part()
    world.widget(part=part, slot=1)
    expected = {"non_field_errors": ["The fields part, slot must make a unique set."]}

    answer = world.api.post("/api/widgets/", json=world.body(part=part, slot=1))
    assert (answer.status, answer.json()) == (400, expected)

    other = world.widget(part=part, slot=2)
    for method, body in (("PATCH", {"slot": 1}), ("PUT", world.body(part=part, slot=1))):
        answer = world.api.request(method, f"/api/widgets/{other['id']}/", json=body)
        assert (answer.status, answer.json()) == (400, expected)
    assert world.api.patch(f"/api/widgets/{other['id']}/", json={"slot": 2}).status == 200
    assert world.api.patch(f"/api/widgets/{other['id']}/", json={"slot": 3}).status == 200


def test_a_null_is_no_member_of_a_unique_set(world: World) -> None:
    part = world.part()
    row = world.widget(part=part)
    world.widget(part=part, slot=None)
    assert world.count() == 2
    assert world.api.patch(f"/api/widgets/{row['id']}/", json={"slot": None}).status == 200
    for body in (world.body(part=part, amount="x"), world.body(part=part, slot=None, amount="x")):
        answer = world.api.post("/api/widgets/", json=body)
        assert (answer.status, answer.json()) == (400, {"amount": ["A valid integer is required."]})


def test_fields_are_compared_with_each_other_only_when_each_is_good(world: World) -> None:
    part = world.part()
    row = world.widget(part=part, slot=1)
    other = world.widget(part=part, slot=2)
    for method, target in (("POST", "/api/widgets/"), ("PUT", f"/api/widgets/{other['id']}/")):
        answer = world.api.request(method, target, json=world.body(part=part, slot=1, amount="x"))
        assert (answer.status, answer.json()) == (400, {"amount": ["A valid integer is required."]})
    answer = world.api.patch(f"/api/widgets/{other['id']}/", json={"slot": 1, "part": "x"})
    assert list(answer.json()) == ["part"]
    assert world.api.get(f"/api/widgets/{row['id']}/").json() == row


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/api/widgets/999999/", "No Widget matches the given query."),
        ("/api/widgets/0/", "No Widget matches the given query."),
        ("/api/widgets/-1/", "No Widget matches the given query."),
        (f"/api/widgets/{2**31}/", "No Widget matches the given query."),
        (f"/api/parts/{2**31}/", "No Part matches the given query."),
        (f"/api/widgets/{2**63}/", "No Widget matches the given query."),
        (f"/api/parts/{10**30}/", "No Part matches the given query."),
        (f"/api/crates/{UNKNOWN_UUID}/", "No Crate matches the given query."),
        (f"/api/crates/{UNKNOWN_UUID.replace('-', '')}/", "No Crate matches the given query."),
        ("/api/labels/%20/", "No Label matches the given query."),
        ("/api/labels/none/", "No Label matches the given query."),
        ("/api/labels/" + "x" * 2000 + "/", "No Label matches the given query."),
        ("/api/widgets/abc/", "Not found."),
        ("/api/widgets/1x/", "Not found."),
        ("/api/widgets/1.0/", "Not found."),
        ("/api/widgets/1.5/", "Not found."),
        ("/api/widgets/true/", "Not found."),
        ("/api/steps/%20/", "Not found."),
        ("/api/crates/abc/", "Not found."),
        ("/api/crates/5/", "Not found."),
    ],
)
def test_404_says_whether_the_key_could_be_one(api: Caller, method: str, target: str, detail: str) -> None:
    answer = api.request(method, target)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    if method != "HEAD":
        assert answer.json() == {"detail": detail}


@pytest.mark.parametrize(
    "target", ["/api/labels/%00/", "/api/labels/%ff/", "/api/labels/%ED%A0%80/", "/api/labels/%zz/"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_key_that_no_text_can_be_is_404(api: Caller, method: str, target: str) -> None:
    answer = api.request(method, target)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PUT", "/api/widgets/", "GET, POST, HEAD, OPTIONS"),
        ("PATCH", "/api/widgets/", "GET, POST, HEAD, OPTIONS"),
        ("DELETE", "/api/widgets/", "GET, POST, HEAD, OPTIONS"),
        ("TRACE", "/api/widgets/", "GET, POST, HEAD, OPTIONS"),
        ("POST", "/api/widgets/1/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("BREW", "/api/widgets/1/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
    ],
)
def test_405(api: Caller, method: str, target: str, allow: str) -> None:
    answer = api.request(method, target)
    assert (answer.status, answer.text) == (405, f'{{"detail":"Method \\"{method}\\" not allowed."}}')
    assert answer.headers["allow"] == allow
    assert answer.headers["content-type"] == "application/json"


def test_the_date_time_string_has_no_backslashes_on_the_wire(world: World) -> None:
    answer = world.api.post("/api/widgets/", json=world.body(started_at="?"))
    assert b"[+HH:MM|-HH:MM|Z]." in answer.body
    assert b"\\" not in answer.body


def test_typographic_quotes_are_not_escaped_on_the_wire(world: World) -> None:
    answer = world.api.post("/api/widgets/", json=world.body(crate="zzz"))
    assert answer.body == '{"crate":["“zzz” is not a valid UUID."]}'.encode()


def test_json_that_grows_a_hundredfold_on_its_way_is_400(world: World) -> None:
    for number in (1e308, 1e-308):
        answer = world.api.post("/api/widgets/", json=world.body(payload=[number] * 60_000))
        assert answer.status == 400
        assert answer.json() == {
            "payload": ["Ensure this field has no more than 16777216 characters, exponents written out."]
        }
    assert world.widget(payload=[1e308] * 50_000)["payload"] == [10**308] * 50_000
    assert world.widget(payload={"text": "e+308, " * 100_000})["payload"]["text"].startswith("e+308, e+308")
