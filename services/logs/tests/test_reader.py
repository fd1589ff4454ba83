"""From a body to a stored row and back: nothing is changed on the way, and both ways of reading agree."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, tzinfo
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sluice_core.database import Database
from sluice_core.rest import Invalid
from sluice_core.rest.store import ResourceStore
from sluice_core.testing.schema import clear
from sluice_logs.records import Reader
from sluice_logs.resources import LOGS
from sluice_logs.store import Partitions, RecordStore
from sluice_logs.tables import metadata

from .records import body, record

EXAMPLES = settings(deadline=None, database=None, derandomize=True, max_examples=300)
DAY = date(2031, 3, 1)
NEW_YORK = ZoneInfo("America/New_York")

# What PostgreSQL and COPY give a meaning to is more likely than by chance.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\t\n\r\\.N\b\v\f\"'")
TEXT = st.text(CHARACTERS, min_size=1, max_size=40)
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(-1e15, 1e15, allow_nan=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.sampled_from([None, UTC, NEW_YORK])).map(lambda at: at.isoformat())
RECORDS = st.fixed_dictionaries(
    {
        "app_name": TEXT,
        "instance_name": TEXT,
        "timestamp": TIMES | TEXT,
        "levelname": TEXT,
        "message": TEXT,
        "module": TEXT,
        "funcname": TEXT,
        "lineno": st.integers(-(2**31), 2**31 - 1) | NUMBERS | st.booleans() | TEXT,
        "process": st.integers(-(2**31), 2**31 - 1),
        "thread": st.integers(-(2**63), 2**63 - 1),
    },
    optional={"level": st.sampled_from([0, 10, 20, "30", 25, None]), "extra_data": JSON},
)


class Table:
    """The log table, written by COPY and read as the API reads it."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pool_size=1)
        self._ids = count(1)
        self._rows = ResourceStore(LOGS)
        self.database.transact(lambda c: Partitions(c).make([DAY]))

    def through(self, reader: Reader, raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Store a record; return what is answered and what is read."""
        key = next(self._ids)
        made = reader.read(raw)
        self.database.transact(lambda c: RecordStore(c).copy([made.line(key, DAY)]))
        row = self.database.read(lambda c: self._rows.get(c, key))
        return json.loads(made.answer(key)), json.loads(msgspec.json.encode(row))


@pytest.fixture(scope="module")
def table(service_database: str) -> Iterator[Table]:
    clear(service_database, metadata)
    made = Table(service_database)
    yield made
    made.database.close()


@EXAMPLES
@given(texts=st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT).filter(lambda texts: all(text.strip() for text in texts)))
def test_any_text_comes_back_as_it_was_sent(table: Table, texts: tuple[str, ...]) -> None:
    names = ("app_name", "instance_name", "levelname", "message", "module", "funcname")
    sent = dict(zip(names, texts, strict=True))
    answered, stored = table.through(Reader(UTC), body(**sent, extra_data=dict.fromkeys(texts, texts[0])))
    assert answered == stored
    assert {name: stored[name] for name in names} == {name: text.strip() for name, text in sent.items()}
    assert stored["extra_data"] == dict.fromkeys(texts, texts[0])


@EXAMPLES
@given(extra=JSON)
def test_any_json_comes_back_equal(table: Table, extra: Any) -> None:
    answered, stored = table.through(Reader(UTC), body(extra_data=extra))
    assert stored["extra_data"] == extra
    assert answered == stored


@EXAMPLES
@given(at=st.datetimes(timezones=st.sampled_from([None, UTC, NEW_YORK])), zone=st.sampled_from([UTC, NEW_YORK]))
def test_a_time_is_the_same_instant_afterwards(table: Table, at: datetime, zone: tzinfo) -> None:
    assume(1 < at.year < 9999)
    moment = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    answered, stored = table.through(Reader(zone), body(timestamp=at.isoformat()))
    assert datetime.fromisoformat(answered["timestamp"]) == moment
    assert datetime.fromisoformat(stored["timestamp"]) == moment


@EXAMPLES
@given(sent=RECORDS, zone=st.sampled_from([UTC, NEW_YORK]))
def test_the_quick_way_and_the_fields_of_the_resource_agree(sent: dict[str, Any], zone: tzinfo) -> None:
    reader = Reader(zone)
    quick = reader._quickly(json.dumps(sent).encode())
    if quick is not None:
        assert quick == reader.take(sent)


def test_what_agents_send_goes_the_quick_way() -> None:
    assert Reader(UTC)._quickly(body()) is not None


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"message": "a\0b"}, {"message": ["Null characters are not allowed."]}),
        ({"extra_data": {"k": "a\0"}}, {"extra_data": ["Null characters are not allowed."]}),
        ({"message": "a\ud800"}, {"message": ["Surrogate characters are not allowed: U+D800."]}),
        ({"extra_data": ["\udfff"]}, {"extra_data": ["Surrogate characters are not allowed: U+DFFF."]}),
        ({"thread": 2**63}, {"thread": [f"Ensure this value is less than or equal to {2**63 - 1}."]}),
        ({"timestamp": "0000-01-01T00:00:00"}, None),
        ({"timestamp": "9999-12-31T23:59:59-01:00"}, {"timestamp": ["Datetime value out of range."]}),
        ({"app_name": "x" * 101}, {"app_name": ["Ensure this field has no more than 100 characters."]}),
        ({"module": None}, {"module": ["This field may not be null."]}),
        ({"lineno": True}, {"lineno": ["A valid integer is required."]}),
    ],
)  # fmt: skip
def test_a_bad_field_is_named_in_the_words_of_the_contract(given: dict[str, Any], errors: Any) -> None:
    with pytest.raises(Invalid) as caught:
        Reader(UTC).read(body(**given))
    assert caught.value.errors == errors or (errors is None and list(caught.value.errors) == list(given))


def test_errors_come_in_the_order_of_the_table() -> None:
    with pytest.raises(Invalid) as caught:
        Reader(UTC).take({"extra_data": "\0", **record(level=1), "extra_data ": 1, "app_name": "", "process": "x"})
    assert list(caught.value.errors) == ["app_name", "level", "process"]
