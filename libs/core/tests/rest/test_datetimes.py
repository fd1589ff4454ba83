"""Contract 2.3 and correction 18.4 as properties: what is taken means one instant, and nothing is a server error."""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from .conftest import NEW_YORK, World
from .test_errors import DATETIME

OUT_OF_RANGE = "Datetime value out of range."
# A fraction when there is one, then `Z` in UTC or a numeric offset.
ANSWERED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?(?:Z|[+-]\d\d:\d\d)")
EXAMPLES = settings(deadline=None, database=None, derandomize=True, max_examples=120)
ZONES = {"UTC": UTC, NEW_YORK: ZoneInfo(NEW_YORK)}


@pytest.fixture(scope="module", params=["UTC", NEW_YORK])
def zoned(request: pytest.FixtureRequest) -> tuple[World, tzinfo]:
    name = "world" if request.param == "UTC" else "new_york"
    return request.getfixturevalue(name), ZONES[request.param]


def post(world: World, value: Any) -> Any:
    """Store a journal entry with that timestamp; return the answer, and check that it reads back equal."""
    answer = world.api.post("/api/journal/", json={"timestamp": value, "message": "m"})
    if answer.status == 201:
        assert world.api.get(f"/api/journal/{answer.json()['id']}/").body == answer.body
    return answer


def shown(moment: datetime, zone: tzinfo) -> str:
    """Spell an instant as the contract wants it; at a local mean time, whose offset has seconds, in whole minutes."""
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    if offset.seconds % 60:
        zone = timezone(offset + timedelta(seconds=60 - offset.seconds % 60))
    text = moment.astimezone(zone).isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z") if zone is UTC else text


def in_range(moment: datetime, zone: tzinfo) -> bool:
    """Whether an instant has a date within years 1 to 9999, in UTC and in the zone."""
    try:
        moment.astimezone(UTC)
        moment.astimezone(zone)
    except OverflowError:
        return False
    return True


OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@st.composite
def spellings(draw: st.DrawFn, *, aware: bool) -> tuple[str, datetime]:
    """Return a date-time in a spelling that must be taken, and what it says (without offset: naive)."""
    moment = draw(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999999)))  # noqa: DTZ001
    text = moment.strftime("%Y-%m-%d").rjust(10, "0") + draw(st.sampled_from("T ")) + moment.strftime("%H:%M")
    precision = draw(st.sampled_from(["minutes", "seconds", "fraction"]))
    if precision == "minutes":
        moment = moment.replace(second=0, microsecond=0)
    else:
        text += moment.strftime(":%S")
        if precision == "seconds":
            moment = moment.replace(microsecond=0)
        else:
            digits = f"{moment.microsecond:06}" + draw(st.text("0123456789", max_size=5))
            digits = digits[: draw(st.integers(1, len(digits)))]
            moment = moment.replace(microsecond=int(digits[:6].ljust(6, "0")))
            text += draw(st.sampled_from(".,")) + digits
    if not aware:
        return text, moment
    zone = draw(st.just(UTC) | OFFSETS)
    moment = moment.replace(tzinfo=zone)
    if zone is UTC and draw(st.booleans()):
        return text + "Z", moment
    minutes = round((moment.utcoffset() or timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else draw(st.sampled_from("+-")) if minutes == 0 else "+"
    return f"{text}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}", moment


@EXAMPLES
@given(spelled=spellings(aware=True))
@example(("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)))
@example(("0001-01-01T04:56:01Z", datetime(1, 1, 1, 4, 56, 1, tzinfo=UTC)))
@example(("0001-01-01T04:56:02Z", datetime(1, 1, 1, 4, 56, 2, tzinfo=UTC)))
@example(("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))))
@example(("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)))
@example(("9999-12-31T23:59:59-05:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5)))))
@example(("1883-11-18T17:00:00Z", datetime(1883, 11, 18, 17, tzinfo=UTC)))
@example(("2026-11-01T05:30:00Z", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)))
@example(("2026-11-01T06:30:00Z", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)))
def test_an_aware_date_time_keeps_its_instant(zoned: tuple[World, tzinfo], spelled: tuple[str, datetime]) -> None:
    world, zone = zoned
    text, moment = spelled
    answer = post(world, text)
    if in_range(moment, zone):
        assert answer.status == 201, answer
        assert answer.json()["timestamp"] == shown(moment, zone)
        assert ANSWERED.fullmatch(answer.json()["timestamp"])
        assert datetime.fromisoformat(answer.json()["timestamp"]) == moment
    else:
        assert (answer.status, answer.json()) == (400, {"timestamp": [OUT_OF_RANGE]})


@EXAMPLES
@given(spelled=spellings(aware=False))
@example(("2026-03-08T02:30:00", datetime(2026, 3, 8, 2, 30)))  # noqa: DTZ001 - does not exist in New York
@example(("2026-03-08 02:00", datetime(2026, 3, 8, 2, 0)))  # noqa: DTZ001
@example(("2026-11-01T01:30:00", datetime(2026, 11, 1, 1, 30)))  # noqa: DTZ001 - exists twice
@example(("2026-11-01 01:00:00,5", datetime(2026, 11, 1, 1, 0, 0, 500000)))  # noqa: DTZ001
@example(("0001-01-01 00:00", datetime(1, 1, 1)))  # noqa: DTZ001
@example(("9999-12-31 23:59", datetime(9999, 12, 31, 23, 59)))  # noqa: DTZ001
def test_a_naive_date_time_is_in_the_servers_zone(zoned: tuple[World, tzinfo], spelled: tuple[str, datetime]) -> None:
    world, zone = zoned
    text, moment = spelled
    try:
        expected = moment.replace(tzinfo=zone, fold=0).astimezone(UTC)
    except OverflowError:
        assume(False)
    answer = post(world, text)
    if in_range(expected, zone):
        assert answer.status == 201, answer
        assert answer.json()["timestamp"] == shown(expected, zone)
    else:
        assert (answer.status, answer.json()) == (400, {"timestamp": [OUT_OF_RANGE]})


@EXAMPLES
@given(day=st.dates(min_value=date(1, 1, 2), max_value=date(9999, 12, 30)))
@example(date(2026, 3, 8))
@example(date(2026, 11, 1))
def test_a_bare_date_is_midnight(zoned: tuple[World, tzinfo], day: date) -> None:
    world, zone = zoned
    answer = post(world, day.isoformat())
    assert answer.status == 201
    assert answer.json()["timestamp"] == shown(datetime(day.year, day.month, day.day, tzinfo=zone), zone)


@pytest.mark.parametrize(
    ("sent", "in_utc", "in_new_york"),
    [
        ("2026-05-05T10:00:00", "2026-05-05T10:00:00Z", "2026-05-05T10:00:00-04:00"),
        ("2026-05-05T10:00:00Z", "2026-05-05T10:00:00Z", "2026-05-05T06:00:00-04:00"),
        ("2026-11-22T16:33:25.307315Z", "2026-11-22T16:33:25.307315Z", "2026-11-22T11:33:25.307315-05:00"),
        ("2026-05-05 10:00:00.5+02:00", "2026-05-05T08:00:00.500000Z", "2026-05-05T04:00:00.500000-04:00"),
        ("2026-05-05T10:00:00,1234567Z", "2026-05-05T10:00:00.123456Z", "2026-05-05T06:00:00.123456-04:00"),
        ("2026-05-05T10:00:00.000000Z", "2026-05-05T10:00:00Z", "2026-05-05T06:00:00-04:00"),
        ("2026-05-05T10:00:00.0000009Z", "2026-05-05T10:00:00Z", "2026-05-05T06:00:00-04:00"),
        ("2026-05-05", "2026-05-05T00:00:00Z", "2026-05-05T00:00:00-04:00"),
        ("2026-03-08T02:30:00", "2026-03-08T02:30:00Z", "2026-03-08T03:30:00-04:00"),
        ("2026-11-01T01:30:00", "2026-11-01T01:30:00Z", "2026-11-01T01:30:00-04:00"),
        ("2026-11-01T01:30:00-05:00", "2026-11-01T06:30:00Z", "2026-11-01T01:30:00-05:00"),
        ("2026-05-05T10:00-00:00", "2026-05-05T10:00:00Z", "2026-05-05T06:00:00-04:00"),
    ],
)
def test_the_output_is_exact(world: World, new_york: World, sent: str, in_utc: str, in_new_york: str) -> None:
    for server, expected in ((world, in_utc), (new_york, in_new_york)):
        created = post(server, sent)
        assert (created.status, created.json()["timestamp"]) == (201, expected)
        assert server.api.get("/api/journal/").json()[0]["timestamp"] == expected
        assert server.api.get("/api/journal/?limit=1").json()["results"][0]["timestamp"] == expected
        server.sql("DELETE FROM journal")


@pytest.mark.parametrize("server", ["world", "new_york"])
def test_automatic_times_are_in_the_servers_zone(request: pytest.FixtureRequest, server: str) -> None:
    made: World = request.getfixturevalue(server)
    row = made.widget()
    for key in ("created_at", "updated_at"):
        assert ANSWERED.fullmatch(row[key])
        assert row[key].endswith("Z") == (server == "world")


@pytest.mark.parametrize(
    "text",
    [
        "20260505T100000",
        "2026-W19-2",
        "2026-05-05T10",
        "2026-05-05T10:00:00+02",
        "2026-5-5 9:05",
        "2026-05-05T10:00:00\n",
    ],
)
def test_what_one_version_of_python_took_is_taken_or_refused(world: World, text: str) -> None:
    answer = post(world, text)
    if answer.status != 201:
        assert (answer.status, answer.json()) == (400, {"timestamp": [DATETIME]})


@pytest.mark.parametrize(
    "text",
    [
        "20260505100000",
        "2026-05-05T10:00:00z",
        "2026-05-05t10:00:00",
        "2026-05-05T24:00:00",
        "2026-05-05T10:60:00",
        "2026-05-05T10:00:61",
        "2026-13-05T10:00:00",
        "2026-00-05T10:00:00",
        "2026-02-30T10:00:00",
        "2026-05-05T10:00:00+24:00",
        "2026-05-05T10:00:00+99:99",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-2026-05-05T10:00:00Z",
        "2026-05-05T10:00:00 Zulu",
        "2026-05-05T10:00:00Z extra",
        "2026-05-05T10:00:00.Z",
        "2026-05-05T10:00:00.123.456",
        "2026-05-05T10:00:",
        "05/05/2026 10:00",
        "Tue, 05 May 2026 10:00:00 GMT",
        "1746439200",
        "now",
        "infinity",
        "-infinity",
        "epoch",
        "today",
        "２０２６-05-05T10:00:00",
        "\x00",
        "",
        " ",
    ],
)
def test_what_is_no_date_time_is_refused(world: World, text: str) -> None:
    answer = post(world, text)
    assert answer.status == 400
    assert answer.json() in ({"timestamp": [DATETIME]}, {"timestamp": [OUT_OF_RANGE]})


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
NOT_A_DATE = st.text(st.characters(exclude_categories=())).filter(lambda text: not re.search(r"\d{4}", text))


@EXAMPLES
@given(
    value=NOT_A_DATE | JSON.filter(lambda value: value is not None) | st.lists(JSON) | st.dictionaries(st.text(), JSON)
)
def test_garbage_always_gets_the_same_string(world: World, value: Any) -> None:
    answer = post(world, value)
    assert (answer.status, answer.json()) == (400, {"timestamp": [DATETIME]})


@settings(EXAMPLES, max_examples=200)
@given(
    text=st.text("0123456789-+:.,TZ Wz/", max_size=40)
    | st.from_regex(r"\A\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d([.,]\d{0,9})?)?)?)?(Z|[+-]\d\d(:?\d\d(:?\d\d)?)?)?\Z")
)
def test_near_misses_are_instants_or_refused(zoned: tuple[World, tzinfo], text: str) -> None:
    answer = post(zoned[0], text)
    if answer.status == 201:
        assert ANSWERED.fullmatch(answer.json()["timestamp"])
    else:
        assert answer.status == 400
        assert answer.json() in ({"timestamp": [DATETIME]}, {"timestamp": [OUT_OF_RANGE]})


@settings(EXAMPLES, max_examples=40)
@given(moments=st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2, max_size=6))
def test_the_order_of_a_log_is_the_order_of_its_instants(new_york: World, moments: list[datetime]) -> None:
    zone = ZONES[NEW_YORK]
    assume(all(in_range(moment, zone) for moment in moments))
    new_york.sql("DELETE FROM journal")
    for moment in moments:
        assert post(new_york, moment.isoformat()).status == 201
    expected = [shown(moment, zone) for moment in sorted(moments, reverse=True)]
    assert [row["timestamp"] for row in new_york.api.get("/api/journal/").json()] == expected
    paged, target = [], "/api/journal/?limit=1"
    while target:
        page = new_york.api.get(target).json()
        paged += [row["timestamp"] for row in page["results"]]
        target = (page["next"] or "").removeprefix("http://testserver")
    assert paged == expected
