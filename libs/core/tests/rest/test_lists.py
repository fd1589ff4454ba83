"""Contract 2.2, 2.5, decision 7: complete lists in pieces, pages by cursor, typed filters."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from sqlalchemy import Connection, event

from sluice_core.rest.store import ResourceStore
from sluice_core.testing import eventually

from .conftest import World
from .widgets import JOURNAL
from .wire import Caller

MANY = (
    "INSERT INTO widget (widget_name, owner, description, source, kind, status, level, amount, grade, weight,"
    " is_active, started_at, created_at, updated_at, payload, options, part_id)"
    " SELECT 'w' || :part || '-' || i, 'ada', '“x”', 's', 'bolt', 'OK', 0, i, 5, 0.5, true,"
    " timestamptz '2026-01-01 00:00:00Z' + i * interval '1 s', now(), now(), '{\"a\": [1]}', '{}', :part"
    " FROM generate_series(1, :count) i"
)
ENTRIES = (
    "INSERT INTO journal (timestamp, message)"
    " SELECT timestamptz '2026-01-01 00:00:00Z' + (i % 7) * interval '1 s', 'm' || i"
    " FROM generate_series(1, :count) i"
)


# As the client sees it, each message has a million characters; compressed, as PostgreSQL keeps it, a few thousand.
LONG = (
    "INSERT INTO journal (timestamp, message)"
    " SELECT timestamptz '2026-01-01 00:00:00Z' + i * interval '1 s',"
    " CASE WHEN i % 4 = 0 THEN 'short' ELSE repeat('m', 1000000) END FROM generate_series(1, :count) i"
)


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def stored(world: World, table: str) -> list[int]:
    return [row.id for row in world.sql(f"SELECT id FROM {table} ORDER BY id")]


def page_of(target: str) -> str:
    """Return the target of a link that an answer gave."""
    parts = urlsplit(target)
    return f"{parts.path}?{parts.query}"


def pages(api: Caller, target: str) -> list[dict[str, Any]]:
    """Follow ``next`` to the end; return all results."""
    rows: list[dict[str, Any]] = []
    for _ in range(100):
        page = api.get(target).json()
        assert list(page) == ["count", "next", "previous", "results"]
        rows += page["results"]
        if page["next"] is None:
            return rows
        target = page_of(page["next"])
    pytest.fail("the pages do not end")


# ---- Complete lists ----


def test_a_list_is_in_the_order_of_the_key(world: World) -> None:
    rows = [world.widget() for _ in range(5)]
    world.api.patch(f"/api/widgets/{rows[1]['id']}/", json={"amount": 77})
    assert ids(world.api.get("/api/widgets/").json()) == sorted(ids(rows))


def test_text_keys_are_ordered_too(api: Caller) -> None:
    keys = ["b", "a", "B", "a/b", "ü", "10", "9"]
    for key in keys:
        api.post("/api/labels/", json={"label_id": key})
    listed = [row["label_id"] for row in api.get("/api/labels/").json()]
    assert sorted(listed) == sorted(keys)
    assert [row["label_id"] for row in pages(api, "/api/labels/?limit=2")] == listed


def test_a_log_is_newest_first(world: World) -> None:
    for second in (2, 9, 5):
        world.api.post("/api/journal/", json={"timestamp": f"2026-01-01T00:00:0{second}Z", "message": "m"})
    stamps = [row["timestamp"] for row in world.api.get("/api/journal/").json()]
    assert stamps == ["2026-01-01T00:00:09Z", "2026-01-01T00:00:05Z", "2026-01-01T00:00:02Z"]


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 999, 1000, 1001])
def test_a_list_of_any_length_is_complete_json(world: World, count: int) -> None:
    world.sql(ENTRIES, count=count)
    rows = world.api.get("/api/journal/").json()
    assert len(set(ids(rows))) == len(rows) == count


def test_a_long_list_comes_in_several_chunks_and_in_order(world: World) -> None:
    world.sql(MANY, part=world.part(), count=5000)
    answer = world.api.get("/api/widgets/")
    rows = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert len(rows) == 5000
    assert ids(rows) == sorted(ids(rows))
    assert rows[0] == world.api.get(f"/api/widgets/{rows[0]['id']}/").json()
    assert len(answer.chunks) >= 4
    assert max(map(len, answer.chunks)) < len(answer.body) / 2
    assert answer.text == json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def test_a_long_log_is_in_order_over_all_chunks(world: World) -> None:
    world.sql(ENTRIES, count=5000)
    rows = world.api.get("/api/journal/").json()
    stamps = [row["timestamp"] for row in rows]
    assert len(set(ids(rows))) == 5000
    assert stamps == sorted(stamps, reverse=True)
    assert world.api.get("/api/journal/").json() == rows


def test_a_long_list_can_be_filtered(world: World) -> None:
    world.sql(MANY, part=world.part(), count=3000)
    world.sql("UPDATE widget SET status = 'ERROR' WHERE amount % 2 = 0")
    rows = world.api.get("/api/widgets/?status=ERROR").json()
    assert [row["amount"] for row in rows] == list(range(2, 3001, 2))


@pytest.mark.parametrize("path", ["/api/widgets/", "/api/journal/"])
def test_a_list_ends_however_fast_rows_are_added(world: World, path: str) -> None:
    """Whenever a piece is sent, more rows appear than it holds, ahead of the reader in either order."""
    part = world.part()
    world.sql(MANY, part=part, count=1200)
    world.sql(ENTRIES, count=1200)
    present = stored(world, "widget" if path == "/api/widgets/" else "journal")

    async def add(number: int, chunk: bytes) -> None:
        assert number < 20, "the list does not end"
        more = await asyncio.to_thread(world.part)
        await asyncio.to_thread(world.sql, MANY, part=more, count=1000)
        await asyncio.to_thread(
            world.sql,
            "INSERT INTO journal (timestamp, message) SELECT timestamptz '2000-01-01Z' - i * interval '1 s', 'late'"
            " FROM generate_series(1, 1000) i",
        )

    listed = ids(world.api.get(path, on_chunk=add).json())
    assert len(set(listed)) == len(listed)
    assert set(present) <= set(listed)


def test_rows_that_vanish_while_a_list_is_read_do_no_harm(world: World) -> None:
    world.sql(MANY, part=world.part(), count=2000)
    kept = stored(world, "widget")[::2]

    async def remove(number: int, chunk: bytes) -> None:
        await asyncio.to_thread(world.sql, "DELETE FROM widget WHERE amount % 2 = 0")

    listed = ids(world.api.get("/api/widgets/", on_chunk=remove).json())
    assert len(set(listed)) == len(listed)
    assert set(kept) <= set(listed)


def test_a_slow_reader_holds_no_connection(world: World) -> None:
    world.sql(MANY, part=world.part(), count=2500)
    held: list[int] = []

    async def look(number: int, chunk: bytes) -> None:
        await asyncio.to_thread(eventually, lambda: world.database.in_use == 0)
        open_transactions = await asyncio.to_thread(
            world.sql,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rest-tests'"
            " AND datname = current_database() AND state <> 'idle'",
        )
        held.append(open_transactions[0][0])

    assert len(world.api.get("/api/widgets/", on_chunk=look).json()) == 2500
    assert held
    assert set(held) == {0}


def test_a_reader_of_megabytes_in_each_row_holds_one_or_two_of_them(world: World) -> None:
    world.sql(LONG, count=16)
    held: list[int] = []

    async def look(number: int, chunk: bytes) -> None:
        held.append(len(chunk))

    rows = world.api.get("/api/journal/", on_chunk=look).json()
    assert [len(row["message"]) for row in rows] == ([5] + [1_000_000] * 3) * 4
    assert [row["id"] for row in rows] == stored(world, "journal")[::-1]
    assert max(held) < 1_100_000


@pytest.mark.parametrize("field", ["payload", "metadata", "options", "description"])
def test_values_of_any_length_come_whole_in_lists(world: World, field: str) -> None:
    value = "x" * 100_000 if field == "description" else {"a": ["x" * 100_000], "b": None}
    whole = world.widget(**{field: value})
    short = world.widget()
    assert whole[field] == value
    assert world.api.get("/api/widgets/").json() == [whole, short]
    assert world.api.get("/api/widgets/?limit=5").json()["results"] == [whole, short]


def test_a_row_that_vanishes_before_its_long_value_is_read_is_left_out(world: World) -> None:
    world.sql(LONG, count=3)
    first, second, third = stored(world, "journal")
    store = ResourceStore(JOURNAL)

    def page(connection: Connection, most_bytes: int, *doomed: int) -> list[int]:
        def delete(*_: Any) -> None:
            world.sql("DELETE FROM journal WHERE id = ANY(:doomed)", doomed=list(doomed))

        event.listen(connection, "after_cursor_execute", delete, once=True)
        found = store.page(connection, [], 10, most_bytes)
        assert not found.more
        assert all(row["message"] for row in found.rows)
        return ids(found.rows)

    assert world.database.read(lambda connection: page(connection, 10_000_000, second)) == [third, first]
    assert world.database.read(lambda connection: page(connection, 1, third)) == [first]


def test_a_list_that_fails_in_the_middle_is_cut_off_and_never_closed(world: World) -> None:
    world.sql(MANY, part=world.part(), count=2500)

    async def spoil(number: int, chunk: bytes) -> None:
        if number == 1:
            await asyncio.to_thread(
                world.sql, "SET LOCAL lock_timeout = '5s'; ALTER TABLE widget RENAME COLUMN owner TO gone"
            )

    try:
        answer = world.api.get("/api/widgets/", on_chunk=spoil)
    finally:
        world.sql("ALTER TABLE widget RENAME COLUMN gone TO owner")
    assert answer.status == 200
    assert answer.failed is not None
    assert not answer.body.endswith(b"]")
    assert world.database.in_use == 0


def test_a_reader_that_goes_away_ends_the_reading(world: World) -> None:
    world.sql(MANY, part=world.part(), count=5000)

    class Gone(OSError):
        pass

    seen: list[int] = []

    async def leave(number: int, chunk: bytes) -> None:
        seen.append(number)
        raise Gone

    answer = world.api.get("/api/widgets/", on_chunk=leave)
    assert isinstance(answer.failed, Gone)
    assert seen == [1]
    eventually(lambda: world.database.in_use == 0)


# ---- Pages ----


def test_a_page_has_the_four_keys(world: World) -> None:
    rows = [world.widget() for _ in range(5)]
    page = world.api.get("/api/widgets/?limit=2").json()
    assert list(page) == ["count", "next", "previous", "results"]
    assert (page["count"], page["previous"], page["results"]) == (5, None, rows[:2])
    assert urlsplit(page["next"]).path == "/api/widgets/"
    last = world.api.get("/api/widgets/?limit=5").json()
    assert (last["next"], last["results"]) == (None, rows)
    assert world.api.get("/api/widgets/?limit=50").json()["next"] is None


def test_pages_of_an_empty_list(api: Caller) -> None:
    assert api.get("/api/widgets/?limit=2").json() == {"count": 0, "next": None, "previous": None, "results": []}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11])
@pytest.mark.parametrize("path", ["/api/widgets/", "/api/journal/"])
def test_pages_together_are_the_list(world: World, path: str, limit: int) -> None:
    world.sql(MANY, part=world.part(), count=10)
    world.sql(ENTRIES, count=10)
    assert pages(world.api, f"{path}?limit={limit}") == world.api.get(path).json()


@pytest.mark.parametrize("path", ["/api/widgets/", "/api/journal/"])
def test_previous_leads_back_where_it_is_given(world: World, path: str) -> None:
    world.sql(MANY, part=world.part(), count=7)
    world.sql(ENTRIES, count=7)
    first = world.api.get(f"{path}?limit=3").json()
    second = world.api.get(page_of(first["next"])).json()
    if second["previous"] is not None:
        back = world.api.get(page_of(second["previous"])).json()
        assert back["results"] == first["results"]


@pytest.mark.parametrize("path", ["/api/widgets/", "/api/journal/"])
def test_pages_show_each_row_once_while_rows_come_and_go(world: World, path: str) -> None:
    world.sql(MANY, part=world.part(), count=30)
    world.sql(ENTRIES, count=30)
    table = "widget" if path == "/api/widgets/" else "journal"
    present = stored(world, table)
    doomed = present[7]
    seen: list[int] = []
    target = f"{path}?limit=4"
    for turn in range(100):
        page = world.api.get(target).json()
        seen += ids(page["results"])
        if page["next"] is None:
            break
        target = page_of(page["next"])
        if turn < 5:
            world.sql(MANY, part=world.part(), count=3)
            world.sql(ENTRIES, count=3)
            world.sql(f"DELETE FROM {table} WHERE id = :id", id=doomed)
    assert len(set(seen)) == len(seen)
    assert set(present) - {doomed} <= set(seen)


def test_a_page_after_a_row_that_is_gone_still_follows(world: World) -> None:
    rows = [world.widget() for _ in range(5)]
    page = world.api.get("/api/widgets/?limit=2").json()
    world.api.delete(f"/api/widgets/{rows[1]['id']}/")
    assert world.api.get(page_of(page["next"])).json()["results"] == rows[2:4]


def test_pages_keep_filters_and_other_parameters(world: World) -> None:
    world.sql(MANY, part=world.part(), count=10)
    world.sql("UPDATE widget SET status = 'ERROR', owner = 'a & ü+' WHERE amount % 2 = 0")
    query = urlencode({"status": "ERROR", "owner": "a & ü+", "limit": "2"})
    assert world.api.get(f"/api/widgets/?{query}").json()["count"] == 5
    assert [row["amount"] for row in pages(world.api, f"/api/widgets/?{query}")] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("format_", ["?format=json&limit=1", ".json?limit=1"])
def test_pages_in_a_format_lead_to_pages_that_can_be_read(world: World, format_: str) -> None:
    rows = [world.widget() for _ in range(3)]
    assert pages(world.api, f"/api/widgets{'/' if format_[0] == '?' else ''}{format_}") == rows


def test_a_page_of_megabytes_in_each_row_is_short_and_leads_on(world: World) -> None:
    world.sql(LONG, count=40)
    page = world.api.get("/api/journal/?limit=40").json()
    assert 8 <= len(page["results"]) < 20
    assert ids(pages(world.api, "/api/journal/?limit=40")) == stored(world, "journal")[::-1]
    back = world.api.get(page_of(world.api.get(page_of(page["next"])).json()["previous"])).json()
    assert back["results"] == page["results"][-len(back["results"]) :]


def test_a_log_is_counted_only_when_asked(world: World) -> None:
    world.sql(ENTRIES, count=9)
    assert world.api.get("/api/journal/?limit=2").json()["count"] is None
    assert world.api.get("/api/journal/?limit=2&count=true").json()["count"] == 9
    assert world.api.get("/api/journal/?limit=2&count=true&message=m3").json()["count"] == 1


@pytest.mark.parametrize("limit", ["abc", "0", "-1", "1.5", "1e400", "%00", "9" * 30, "9" * 5000, "NaN"])
def test_a_bad_limit_is_400(world: World, limit: str) -> None:
    answer = world.api.get(f"/api/widgets/?limit={limit}")
    assert answer.status == 400
    assert list(answer.json()) == ["limit"]


@pytest.mark.parametrize("query", ["limit=2&offset=2", "limit=2&offset=0", "offset=2&limit=2", "limit=2&offset=x"])
def test_an_offset_is_400(api: Caller, query: str) -> None:
    answer = api.get(f"/api/widgets/?{query}")
    assert answer.status == 400
    assert list(answer.json()) == ["offset"]


@pytest.mark.parametrize(
    "garbage",
    ["x", "%00", "%ff", "e30=", "bnVsbA==", "WyJuIl0=", "WyJuIiwgeyJhIjogMX1d", "WyJuIiwgMWU0MDBd", "W" * 4000, "4pi"],
)
@pytest.mark.parametrize("path", ["/api/widgets/", "/api/journal/", "/api/labels/"])
def test_a_cursor_that_nobody_gave_is_400(world: World, path: str, garbage: str) -> None:
    world.sql(MANY, part=world.part(), count=3)
    world.sql(ENTRIES, count=3)
    for key in ("a", "b", "c"):
        world.api.post("/api/labels/", json={"label_id": key})
    link = urlsplit(world.api.get(f"{path}?limit=1").json()["next"])
    cursors = [name for name, _ in parse_qsl(link.query) if name != "limit"]
    assert len(cursors) == 1
    answer = world.api.get(f"{path}?limit=1&{cursors[0]}={garbage}")
    assert answer.status == 400
    assert list(answer.json()) == cursors


# ---- Filters ----


def filtered(world: World, query: str) -> list[int]:
    return ids(world.api.get(f"/api/widgets/?{query}").json())


def test_filters_are_exact_and_combine(world: World) -> None:
    crate = str(world.crate())
    one = world.widget(amount=1, status="OK", owner="ada", level=10, thread=2**40, crate=crate, fraction=0.5)["id"]
    two = world.widget(amount=1, status="ERROR", owner="ada b", level=0, is_active=False)["id"]
    three = world.widget(amount=-3, status="OK", owner="ADA", level=10, batch_id=crate, started_at="2026-05-07")
    expected: dict[str, list[int]] = {
        "amount=1": [one, two],
        "amount=01": [one, two],
        "amount=-3": [three["id"]],
        "amount=2": [],
        "status=OK": [one, three["id"]],
        "status=OK&amount=1": [one],
        "amount=1&status=OK&owner=ada": [one],
        "owner=ad": [],
        "owner=ada%20b": [two],
        "owner=ada+b": [two],
        "is_active=false": [two],
        "is_active=1": [one, three["id"]],
        "level=10": [one, three["id"]],
        "level=0": [two],
        f"thread={2**40}": [one],
        f"crate={crate}": [one],
        f"crate={crate.upper()}": [one],
        f"batch_id={crate.replace('-', '')}": [three["id"]],
        "fraction=0.5": [one],
        f"part={three['part']}": [three["id"]],
        "part=999999": [],
        "start_time=2026-05-06": [three["id"]],
        "start_time=2026-05-05T10:00:00Z": [one, two, three["id"]],
        "start_time=2026-05-05T06:00:01-04:00": [three["id"]],
        "amount=": [one, two, three["id"]],
        "status=&amount=1": [one, two],
        "nope=1": [one, two, three["id"]],
    }
    assert {query: filtered(world, query) for query in expected} == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "abc"),
        ("amount", "1.5"),
        ("amount", "1 OR 1=1"),
        ("level", "INFO"),
        ("thread", "x"),
        ("batch_id", "zzz"),
        ("crate", "zzz"),
        ("part", "zzz"),
        ("is_active", "maybe"),
        ("fraction", "half"),
        ("fraction", "NaN"),
        ("start_time", "yesterday"),
        ("start_time", "20260505100000"),
    ],
)
@pytest.mark.parametrize("limit", ["", "&limit=1"])
def test_a_malformed_filter_is_400_under_its_name(api: Caller, name: str, value: str, limit: str) -> None:
    answer = api.get(f"/api/widgets/?{urlencode({name: value})}{limit}")
    assert answer.status == 400
    assert list(answer.json()) == [name]
    assert all(isinstance(text, str) for text in answer.json()[name])


def test_all_malformed_filters_are_named(api: Caller) -> None:
    answer = api.get("/api/widgets/?amount=x&start_time=y&status=OK")
    assert (answer.status, set(answer.json())) == (400, {"amount", "start_time"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", str(2**31)),
        ("amount", "9" * 1001),
        ("thread", str(2**63)),
        ("part", str(10**30)),
        ("fraction", "1e400"),
        ("owner", "\x00"),
        ("owner", "x" * 10_000),
        ("owner", "%"),
        ("owner", "'; DROP TABLE widget"),
        ("status", "zzz"),
        ("status", "\x00"),
        ("level", "7"),
        ("level", "9" * 40),
        ("start_time", "0001-01-01"),
        ("start_time", "9999-12-31T23:59:59-14:00"),
        ("start_time", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_strange_filter_is_no_server_error(world: World, name: str, value: str) -> None:
    world.widget()
    answer = world.api.get(f"/api/widgets/?{urlencode({name: value})}")
    assert answer.status in (200, 400)
    if answer.status == 400:
        assert list(answer.json()) == [name]


@pytest.mark.parametrize(
    "raw", ["amount=%", "amount=%zz", "owner=%ff", "%ff=1", "amount=1=2", "&&&", "owner=%ED%A0%80"]
)
def test_a_broken_query_string_is_no_server_error(api: Caller, raw: str) -> None:
    assert api.get(f"/api/widgets/?{raw}").status in (200, 400)


def test_a_value_outside_of_the_choices_may_be_asked_for(world: World) -> None:
    row = world.widget()
    world.sql("UPDATE widget SET status = 'DATA', level = 7")
    assert filtered(world, "status=DATA") == [row["id"]]
    assert filtered(world, "level=7") == [row["id"]]


def test_head_checks_what_get_checks(api: Caller) -> None:
    for target in ("/api/widgets/?amount=x", "/api/widgets/?limit=x", "/api/widgets/?limit=1&offset=1"):
        assert api.head(target).status == api.get(target).status == 400
