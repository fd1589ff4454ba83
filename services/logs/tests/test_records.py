"""``/api/logs/``: who may do what with log records, and what comes back (contract 3.2, decisions 3 to 7)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens
from sluice_logs.resources import LOGS
from sluice_logs.tables import log_record

from .records import URL, record

NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
DENIED = {"detail": "You do not have permission to perform this action."}
INVALID = {"detail": "Invalid token."}
BAD = {"Authorization": "Token bad"}


def post(client: TestClient, **given: Any) -> dict[str, Any]:
    reply = client.post(URL, json=record(**given))
    assert reply.status_code == 201, reply.text
    created: dict[str, Any] = reply.json()
    return created


def messages(client: TestClient, query: str = "") -> list[str]:
    reply = client.get(URL + query)
    assert reply.status_code == 200, reply.text
    return [each["message"] for each in reply.json()]


def test_a_source_that_sends_too_often_is_told_when_to_go_on(start: Start) -> None:
    client = start(post_rate=0.1)
    post(client)
    reply = client.post(URL, json=record())
    wait = int(reply.headers["retry-after"])
    assert 0 < wait <= 10
    assert (reply.status_code, reply.json()) == (
        429,
        {"detail": f"Request was throttled. Expected available in {wait} seconds."},
    )
    # No proxy was declared, so nobody is somebody else by a header; and reading is not limited.
    assert client.post(URL, json=record(), headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 429
    assert len(messages(client)) == 1


def test_how_often_a_source_sends_is_its_own_affair_by_default(client: TestClient) -> None:
    assert [client.post(URL, json=record()).status_code for _ in range(50)] == [201] * 50


# Scenario 12 of swf-monitor.md, 13 of swf-clients.md


def test_what_the_agents_library_posts_is_stored_without_a_token(client: TestClient) -> None:
    body = record()
    created = client.post(URL, json=body)
    assert created.status_code == 201
    assert list(created.json()) == ["id", *body]
    assert created.json() == {"id": created.json()["id"], **body, "timestamp": "2026-05-05T10:00:00.123456Z"}
    assert client.get(f"{URL}{created.json()['id']}/").json() == created.json()


def test_a_level_outside_of_the_list_is_refused_and_not_stored(client: TestClient) -> None:
    reply = client.post(URL, json=record(level=25))
    assert (reply.status_code, reply.json()) == (400, {"level": ['"25" is not a valid choice.']})
    assert client.post(URL, json=record(level="INFO")).json() == {"level": ['"INFO" is not a valid choice.']}
    assert messages(client) == []


def test_a_level_may_be_text_or_absent(client: TestClient) -> None:
    assert post(client, level="20")["level"] == 20
    body = record()
    del body["level"]
    assert client.post(URL, json=body).json()["level"] == 0


def test_an_empty_message_is_refused(client: TestClient) -> None:
    reply = client.post(URL, json=record(message=""))
    assert (reply.status_code, reply.json()) == (400, {"message": ["This field may not be blank."]})


def test_a_thread_id_has_64_bits_and_a_process_id_32(client: TestClient) -> None:
    assert post(client, thread=2**63 - 1)["thread"] == 2**63 - 1
    reply = client.post(URL, json=record(process=2**31))
    assert reply.json() == {"process": ["Ensure this value is less than or equal to 2147483647."]}


def test_levelname_is_free_text(client: TestClient) -> None:
    assert post(client, level=10, levelname="Lärm")["levelname"] == "Lärm"


def test_extra_data_may_be_anything_or_absent(client: TestClient) -> None:
    values: list[Any] = [None, [], "text", {"a": [1, None]}, 0]
    for value in values:
        assert post(client, extra_data=value)["extra_data"] == value
    body = record()
    del body["extra_data"]
    assert client.post(URL, json=body).json()["extra_data"] is None


def test_a_long_message_is_stored_whole_and_found_by_its_beginning(client: TestClient) -> None:
    # Each word another one: more than PostgreSQL's index of words could hold.
    message = " ".join(f"w{number:07x}" for number in range(388_000))
    assert len(message) > 3_490_000
    assert post(client, message=message)["message"] == message
    assert len(messages(client, "?search=w0000002")) == 1


def test_a_body_over_4_mb_is_413(client: TestClient) -> None:
    reply = client.post(URL, json=record(message="x" * (4 * 2**20)))
    assert reply.status_code == 413
    assert messages(client) == []


# Who may do what


def test_a_bad_token_is_ignored_on_post_and_refused_on_read(client: TestClient) -> None:
    assert client.post(URL, json=record(), headers=BAD).status_code == 201
    reply = client.get(URL, headers=BAD)
    assert (reply.status_code, reply.json()) == (403, INVALID)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_record_is_changed_and_deleted_by_log_admins_only(client: TestClient, tokens: Tokens, method: str) -> None:
    path = f"{URL}{post(client)['id']}/"
    body = record(message="changed")
    for headers, refusal in (({}, NOT_PROVIDED), (BAD, INVALID), (tokens.header("logs:write"), DENIED)):
        reply = client.request(method, path, json=body, headers=headers)
        assert (reply.status_code, reply.json()) == (403, refusal)
    assert messages(client) == ["run 100010 has begun"]
    reply = client.request(method, path, json=body, headers=tokens.header("logs:admin"))
    assert reply.status_code == (204 if method == "DELETE" else 200)
    assert messages(client) == ([] if method == "DELETE" else ["changed"])


def test_where_anonymous_posts_are_closed_a_record_needs_logs_write(start: Start, tokens: Tokens) -> None:
    client = start(anonymous_post=False)
    wrong = tokens.header("logs:admin")
    for headers, refusal in (({}, NOT_PROVIDED), (BAD, INVALID), (wrong, DENIED)):
        reply = client.post(URL, json=record(), headers=headers)
        assert (reply.status_code, reply.json()) == (403, refusal)
    assert messages(client) == []
    assert client.post(URL, json=record(), headers=tokens.header("logs:write")).status_code == 201


def test_where_reads_are_closed_agents_can_still_log(start: Start, tokens: Tokens) -> None:
    client = start(shared={"anonymous_read": False})
    assert client.post(URL, json=record()).status_code == 201
    reply = client.get(URL)
    assert (reply.status_code, reply.json()) == (403, NOT_PROVIDED)
    assert len(client.get(URL, headers=tokens.header()).json()) == 1


# Scenario 13: order; then filters and pages


def test_the_newest_timestamp_comes_first_whatever_came_in_first(client: TestClient) -> None:
    for minute in (2, 3, 1):
        post(client, timestamp=f"2026-05-05T10:0{minute}:00Z", message=f"minute {minute}")
    post(client, timestamp="2026-05-05T10:02:00Z", message="minute 2 again")
    assert messages(client) == ["minute 3", "minute 2 again", "minute 2", "minute 1"]


def test_naive_times_are_read_and_shown_in_the_server_zone(start: Start) -> None:
    client = start(shared={"timezone": "America/New_York"})
    assert post(client)["timestamp"] == "2026-05-05T10:00:00.123456-04:00"
    assert messages(client, "?start_time=2026-05-05T10:00:00") == ["run 100010 has begun"]
    assert messages(client, "?start_time=2026-05-05T10:00:00Z&end_time=2026-05-05T12:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    [
        "?app_name=sim",
        "?instance_name=sim-1",
        "?level=40",
        "?levelname=ERROR",
        "?start_time=2026-05-05T11:00:00Z",
        "?start_time=2026-05-05T11:00:00Z&end_time=2026-05-05T11:00:00Z",
        "?search=link",
        "?search=LINK+lost",
        "?search=%22lost+link%22",
        "?search=link+-begun",
        "?app_name=sim&level=40&search=lost",
    ],
)
def test_filters_narrow_the_list(client: TestClient, query: str) -> None:
    post(client)
    post(
        client,
        app_name="sim",
        instance_name="sim-1",
        level=40,
        levelname="ERROR",
        timestamp="2026-05-05T11:00:00Z",
        message="lost link",
    )
    assert messages(client, query) == ["lost link"]


def test_a_search_that_names_no_word_finds_nothing(client: TestClient) -> None:
    post(client)
    assert messages(client, "?search=%21%3A*%28%26") == []


def test_other_parameters_and_empty_ones_leave_the_list_whole(client: TestClient) -> None:
    post(client)
    assert len(messages(client, "?nope=1&level=&search=")) == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?level=high", "level"),
        ("?level=99999999999999999999", "level"),
        ("?start_time=yesterday", "start_time"),
        ("?end_time=0", "end_time"),
        ("?search=%00", "search"),
        ("?app_name=%00", "app_name"),
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?limit=2&offset=2", "offset"),
        ("?limit=2&cursor=x", "cursor"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_400_and_named(client: TestClient, query: str, parameter: str) -> None:
    reply = client.get(URL + query)
    assert reply.status_code == 400
    assert list(reply.json()) == [parameter]


def test_pages_by_cursor_show_every_record_once_and_count_only_when_asked(client: TestClient) -> None:
    for number in range(5):
        post(client, message=f"record {number}")
    page = client.get(f"{URL}?limit=2&app_name=base_agent").json()
    assert page["count"] is None
    assert page["previous"] is None
    seen = [each["message"] for each in page["results"]]
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [each["message"] for each in page["results"]]
    assert seen == [f"record {number}" for number in (4, 3, 2, 1, 0)]
    assert client.get(f"{URL}?limit=2&count=true").json()["count"] == 5


def test_a_list_longer_than_a_page_is_whole_and_in_order(client: TestClient) -> None:
    fields = record(extra_data=None)
    began = datetime.fromisoformat("2026-05-05T00:00:00Z")
    # Many share a timestamp, so that pages end between them.
    fields |= {"received_on": datetime.now(UTC).date()}
    rows = [fields | {"id": n, "timestamp": began + timedelta(seconds=n // 7), "message": str(n)} for n in range(1_234)]
    with client.app.state.service.database.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(log_record.insert(), rows)
    assert messages(client) == [str(n) for n in reversed(range(1_234))]


# What the queries cost


@pytest.mark.parametrize(
    ("query", "index", "worse"),
    [
        ("", "log_record_newest", ("seqscan", "sort")),
        ("app_name=a&instance_name=b", "log_record_of_instance", ("seqscan", "sort")),
        ("search=lost+link", "log_record_words", ("seqscan", "indexscan")),
    ],
)
def test_lists_are_answered_by_an_index(client: TestClient, query: str, index: str, worse: tuple[str, str]) -> None:
    statements: list[tuple[str, Any]] = []
    engine = client.app.state.service.database.engine  # type: ignore[attr-defined]

    @sa.event.listens_for(engine, "before_cursor_execute")
    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if "FROM log_record" in statement:  # and not what is tidied up meanwhile
            statements.append((statement, parameters))

    assert client.get(f"{URL}?{query}").status_code == 200
    statement, parameters = statements[-1]
    with engine.connect() as connection:
        for way in worse:  # and yet better for an empty table
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
        parts = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
        indexes = list(connection.exec_driver_sql(parts, (index,)).scalars())
    assert indexes
    assert all(each in plan for each in indexes), plan


def test_the_resource_has_the_columns_of_its_table() -> None:
    columns = [column.name for column in log_record.columns]
    assert [*(field.column for field in LOGS.fields), "received_on"] == columns


def test_log_records_leave_no_audit_record_unless_they_are_changed_or_refused(
    client: TestClient, tokens: Tokens
) -> None:
    trail = client.app.state.service.trail  # type: ignore[attr-defined]
    created = post(client)
    client.get(URL)
    assert trail.waiting == 0
    assert client.post(URL, json=record(), headers=tokens.session(proven=False)).status_code == 403
    assert client.get(URL, headers=BAD).status_code == 403
    assert client.delete(f"{URL}{created['id']}/", headers=tokens.header("logs:admin")).status_code == 204
    assert trail.waiting == 3
