"""Contract 2.4 and corrections 18.5, 18.7, 18.8, 18.12: which spellings of a value are taken, and what they become."""

from typing import Any

import pytest

from .conftest import World

CRATE = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9"

# (field, values sent, value answered)
TAKEN: list[tuple[str, list[Any], Any]] = [
    ("owner", ["ada", "  ada", "ada\n", "\t ada \r\n", "\u2003ada\u00a0"], "ada"),
    ("owner", [5, "5", " 5 "], "5"),
    ("owner", [1.5], "1.5"),
    ("owner", ["x" * 50, "  " + "x" * 50], "x" * 50),
    ("owner", ["☃" * 50], "☃" * 50),
    ("owner", ["a  b"], "a  b"),
    ("owner", ["\U0001f600"], "\U0001f600"),
    ("description", ["", "  "], ""),
    ("description", ["y" * 1_000_000], "y" * 1_000_000),
    ("remark", [None], None),
    ("hostname", [None], None),
    ("hostname", ["", " "], ""),
    ("status", ["OK"], "OK"),
    ("hue", [""], ""),
    ("hue", [None], None),
    ("hue", ["red"], "red"),
    ("level", [20, "20"], 20),
    ("level", [0, "0"], 0),
    ("amount", [7, "7", "007", " 7 ", "+7", "7.0", "7.", 7.0, "7.000"], 7),
    ("amount", [12, "12.0"], 12),
    ("amount", ["-3", -3, -3.0], -3),
    ("amount", [1000, "1_000", 1e3], 1000),
    ("amount", [2147483647, "2147483647"], 2147483647),
    ("amount", [-2147483648], -2147483648),
    ("grade", [1, "1"], 1),
    ("grade", [10], 10),
    ("pid", [None], None),
    ("thread", [140713671113600, "140713671113600"], 140713671113600),
    ("thread", [9223372036854775807, "9223372036854775807"], 9223372036854775807),
    ("thread", [-9223372036854775808], -9223372036854775808),
    ("fraction", [1.5, "1.5", " 1.5 ", "15e-1"], 1.5),
    ("fraction", [1, "1", 1.0, True], 1.0),
    ("fraction", [None], None),
    ("fraction", [-0.25, "-.25"], -0.25),
    (
        "is_active",
        [True, 1, "1", "true", "True", "TRUE", "t", "T", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON"],
        True,
    ),
    ("is_active", [1.0], True),
    (
        "is_active",
        [False, 0, "0", "false", "False", "FALSE", "f", "F", "no", "No", "NO", "n", "N", "off", "Off", "OFF"],
        False,
    ),
    ("is_active", [0.0], False),
    ("is_good", [None, "", "null", "Null"], None),
    ("is_good", ["yes", 1, "t"], True),
    ("is_good", ["no", 0, "f"], False),
    ("ended_at", [None], None),
    ("home_url", [None], None),
    ("home_url", [""], ""),
    (
        "home_url",
        ["http://daq-1.example.org:8080/a?b=c#d", " http://daq-1.example.org:8080/a?b=c#d "],
        "http://daq-1.example.org:8080/a?b=c#d",
    ),
    ("home_url", ["http://localhost:8002/"], "http://localhost:8002/"),
    ("home_url", ["https://10.0.0.7/x"], "https://10.0.0.7/x"),
    ("home_url", ["https://[2001:db8::1]:8443/"], "https://[2001:db8::1]:8443/"),
    ("home_url", ["ftp://example.org/f.tf"], "ftp://example.org/f.tf"),
    ("home_url", ["http://h.org/" + "x" * 187], "http://h.org/" + "x" * 187),
    ("batch_id", [None], None),
    ("batch_id", [CRATE, CRATE.upper(), CRATE.replace("-", "")], CRATE),
    ("client_ip", [None], None),
    ("client_ip", ["10.0.0.1", " 10.0.0.1 ", "::ffff:10.0.0.1", "::FFFF:a00:1"], "10.0.0.1"),
    ("client_ip", ["2001:DB8:0:0:0:0:0:1", "2001:db8::1", "2001:0db8::0001"], "2001:db8::1"),
    ("client_ip", ["::1"], "::1"),
    ("metadata", [None], None),
    ("named_part", [None], None),
    ("crate", [None], None),
]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        pytest.param(field, value, expected, id=f"{field}-{str(value)[:40]!r}-{type(value).__name__}")
        for field, values, expected in TAKEN
        for value in values
    ],
)
def test_a_value_is_taken_in_every_spelling(world: World, field: str, value: Any, expected: Any) -> None:
    created = world.widget(**{field: value})
    patched = world.api.patch(f"/api/widgets/{created['id']}/", json={field: value}).json()
    stored = world.api.get("/api/widgets/").json()[0]
    for row in (created, patched, stored):
        assert (row[field], type(row[field])) == (expected, type(expected))


REFUSED: list[tuple[str, list[Any]]] = [
    ("amount", ["1e3", "0x10", "1,000", "--1", "1 2", "٣x", "½", 1e22, 1.0000001]),
    ("thread", [1e30]),
    ("fraction", ["NaN", "nan", "inf", "-inf", "Infinity", "1e400", 10**400, "1,5", {}]),
    ("weight", ["NaN", "inf", 10**400]),
    ("is_active", ["null", "2", "-1", "maybe", "tRuE x", 1.5, -1, "yes no"]),
    ("is_good", [2, "none", [None], {"a": 1}]),
    ("status", [True, ["OK"], {"OK": 1}, " OK ", "ok", 0]),
    ("level", [True, [0], {}, "00", "0.0", " 0 ", -10]),
    ("batch_id", [True, -1, 2**128, {}, "g" * 32, 1.5]),
    ("client_ip", ["", 5, [], {}, "10.0.0", "10.0.0.1:80", "localhost", "1::2::3", "[::1]", "10.0.0.01x"]),
    (
        "home_url",
        ["http://", "//host/x", "http:///x", "http://a b/", "mailto:a@b", "http://[::1", "http://h:99999999/", {}],
    ),
    ("crate", [True, [], {}, 1.5, "zzz\x00", -1, 2**200]),
    ("part", [float(2**70), "1.5", "1 2", "", {}, "1\x00", 2**63, -(2**70), "9" * 5000]),
    ("named_part", [True, [], {}, "a\x00b", "\ud800", 5, 1.5, "x" * 5000]),
    ("started_at", [True, {}, "2026", "2026-05", "10:00", "2026-05-05T", "\x00", "2026-05-05T10:00:00\x00"]),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{str(value)[:40]!r}-{type(value).__name__}")
        for field, values in REFUSED
        for value in values
    ],
)
def test_other_spellings_are_400_under_the_name_of_the_field(world: World, field: str, value: Any) -> None:
    answer = world.api.post("/api/widgets/", json=world.body() | {field: value})
    assert answer.status == 400
    assert list(answer.json()) == [field]
    assert all(isinstance(text, str) for text in answer.json()[field])
    assert world.count() == 0


def test_a_foreign_key_is_taken_as_text_too(world: World) -> None:
    part, crate = world.part(), world.crate()
    created = world.widget(part=str(part), crate=crate.hex)
    assert (created["part"], created["crate"]) == (part, str(crate))


def test_a_fraction_is_no_foreign_key(world: World) -> None:
    answer = world.api.post("/api/widgets/", json=world.body(part=world.part() + 0.5))
    assert (answer.status, list(answer.json())) == (400, ["part"])


def test_what_is_absent_gets_its_default(world: World) -> None:
    created = world.widget()
    expected: dict[str, Any] = {
        "named_part": None,
        "remark": None,
        "description": "",
        "hostname": None,
        "source": "physics",
        "status": "UNKNOWN",
        "hue": None,
        "level": 0,
        "grade": 5,
        "pid": None,
        "fraction": None,
        "weight": 1.5,
        "is_active": True,
        "is_good": None,
        "ended_at": None,
        "home_url": None,
        "batch_id": None,
        "client_ip": None,
        "metadata": None,
        "options": {},
        "crate": None,
    }
    assert {key: created[key] for key in expected} == expected


def test_a_default_is_made_anew_for_each_row(world: World) -> None:
    first, second = (world.api.post("/api/crates/", json={}).json() for _ in range(2))
    assert first["crate_id"] != second["crate_id"]


def test_an_unlisted_value_that_is_stored_can_be_read_and_its_row_changed(world: World) -> None:
    row = world.widget()
    world.sql("UPDATE widget SET status = 'DATA', level = 7, kind = 'screw'")
    target = f"/api/widgets/{row['id']}/"
    for read in (world.api.get("/api/widgets/").json()[0], world.api.get(target).json()):
        assert (read["status"], read["level"], read["kind"]) == ("DATA", 7, "screw")
    assert world.api.patch(target, json={"amount": 8}).json()["status"] == "DATA"


def test_a_stored_nan_does_not_break_the_list(world: World) -> None:
    row = world.widget()
    world.sql("UPDATE widget SET fraction = 'NaN', weight = 'Infinity'")
    listed = world.api.get("/api/widgets/")
    assert listed.status == 200
    assert [each["id"] for each in listed.json()] == [row["id"]]
    assert b"NaN" not in listed.body
    assert world.api.get(f"/api/widgets/{row['id']}/").status == 200
