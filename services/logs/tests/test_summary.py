"""``GET /api/logs/summary/`` (contract 3.2)."""

from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens

from .records import URL, record

SUMMARY = f"{URL}summary/"


def post(client: TestClient, **given: Any) -> None:
    assert client.post(URL, json=record(**given)).status_code == 201


def summary(client: TestClient) -> Any:
    reply = client.get(SUMMARY)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_an_error_is_counted_and_shown_with_a_utc_time(client: TestClient, tokens: Tokens) -> None:
    """Scenario 13 of swf-monitor.md."""
    body = {
        "app_name": "a",
        "instance_name": "i",
        "level": 40,
        "levelname": "ERROR",
        "timestamp": "2026-03-01T08:04:05",
    }
    post(client, **body, message="lost link", module="io", funcname="rd", lineno=7)
    reply = client.get(SUMMARY, headers=tokens.header())
    assert reply.text == (
        '{"a":{"i":{"error_counts":{"ERROR":1},"recent_errors":[{"timestamp":"2026-03-01T08:04:05Z",'
        '"levelname":"ERROR","message":"lost link","module":"io","funcname":"rd","lineno":7}]}}}'
    )


def test_times_are_in_utc_in_every_server_zone(start: Start) -> None:
    client = start(shared={"timezone": "America/New_York"})
    post(client, levelname="ERROR", timestamp="2026-03-01T08:04:05.25")
    errors = summary(client)["base_agent"]["daq-7"]["recent_errors"]
    assert errors[0]["timestamp"] == "2026-03-01T13:04:05.250000Z"


def test_records_of_all_levels_are_counted_by_the_name_of_the_level(client: TestClient) -> None:
    for levelname, level in (("INFO", 20), ("INFO", 40), ("DEBUG", 10), ("loud", 50)):
        post(client, levelname=levelname, level=level)
    post(client, instance_name="daq-8")
    post(client, app_name="daq_sim", instance_name="daq-7", levelname="CRITICAL")
    found = summary(client)
    assert {app: list(instances) for app, instances in found.items()} == {
        "base_agent": ["daq-7", "daq-8"],
        "daq_sim": ["daq-7"],
    }
    assert found["base_agent"]["daq-7"] == {"error_counts": {"DEBUG": 1, "INFO": 2, "loud": 1}, "recent_errors": []}
    assert found["daq_sim"]["daq-7"]["error_counts"] == {"CRITICAL": 1}


def test_the_five_newest_errors_of_each_instance_are_shown_newest_first(client: TestClient) -> None:
    for minute in (3, 1, 6, 2, 5, 4, 0):
        levelname = "CRITICAL" if minute % 2 else "ERROR"
        at = f"2026-05-05T10:0{minute}:00Z"
        post(client, levelname=levelname, timestamp=at, message=f"minute {minute}")
        post(client, instance_name="daq-8", levelname="WARNING", timestamp=at)
    post(client, instance_name="daq-8", levelname="ERROR", message="the only one")
    instances = summary(client)["base_agent"]
    assert [each["message"] for each in instances["daq-7"]["recent_errors"]] == [f"minute {n}" for n in (6, 5, 4, 3, 2)]
    assert instances["daq-7"]["error_counts"] == {"CRITICAL": 3, "ERROR": 4}
    assert [each["message"] for each in instances["daq-8"]["recent_errors"]] == ["the only one"]


def test_counts_follow_what_an_administrator_changes_and_deletes(client: TestClient, tokens: Tokens) -> None:
    ids = [client.post(URL, json=record(message=str(number))).json()["id"] for number in range(3)]
    headers = tokens.header("logs:admin")
    assert client.delete(f"{URL}{ids[0]}/", headers=headers).status_code == 204
    change = {"levelname": "ERROR", "instance_name": "daq-9"}
    assert client.patch(f"{URL}{ids[1]}/", json=change, headers=headers).status_code == 200
    assert client.patch(f"{URL}{ids[2]}/", json={"message": "other"}, headers=headers).status_code == 200
    counts = {name: each["error_counts"] for name, each in fresh(client)["base_agent"].items()}
    assert counts == {"daq-7": {"INFO": 1}, "daq-9": {"ERROR": 1}}


def fresh(client: TestClient) -> Any:
    """Return the summary of now; a record makes the kept one stale."""
    post(client, app_name="other")
    return summary(client)


def test_the_summary_of_a_flood_of_names_and_long_messages_stays_small(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_logs.service.MOST_INSTANCES", 3)
    monkeypatch.setattr("sluice_logs.service.MOST_CHARACTERS", 3000)
    for number in range(5):
        post(client, instance_name=f"i-{number}", levelname="ERROR", message="x" * 1000)
    instances = summary(client)["base_agent"]
    assert len(instances) == 3
    assert {len(each["recent_errors"][0]["message"]) for each in instances.values()} == {200}


def test_an_empty_table_is_an_empty_summary(client: TestClient) -> None:
    assert summary(client) == {}


def test_the_summary_takes_two_queries_however_many_instances_there_are(client: TestClient) -> None:
    for number in range(12):
        post(client, instance_name=f"daq-{number}", levelname="ERROR")
    statements: list[str] = []

    @sa.event.listens_for(client.app.state.service.database.engine, "before_cursor_execute")  # type: ignore[attr-defined]
    def remember(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "SELECT" in statement and "pg_" not in statement:  # and not what is tidied up meanwhile
            statements.append(statement)

    assert len(summary(client)["base_agent"]) == 12
    assert len(statements) == 2
    # Whoever asks again within a second, and nothing was stored meanwhile, gets the same.
    assert len(summary(client)["base_agent"]) == 12
    assert len(statements) == 2
    post(client)
    assert summary(client)["base_agent"]["daq-7"]["error_counts"] == {"ERROR": 1, "INFO": 1}


def test_the_summary_is_open_as_lists_are_and_closes_with_them(
    client: TestClient, start: Start, tokens: Tokens
) -> None:
    assert client.get(SUMMARY).status_code == 200
    bad = client.get(SUMMARY, headers={"Authorization": "Token bad"})
    assert (bad.status_code, bad.json()) == (403, {"detail": "Invalid token."})
    closed = start(shared={"anonymous_read": False})
    refused = closed.get(SUMMARY)
    assert (refused.status_code, refused.json()) == (403, {"detail": "Authentication credentials were not provided."})
    assert "www-authenticate" not in refused.headers
    assert closed.get(SUMMARY, headers=tokens.header()).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_summary_can_only_be_read(client: TestClient, method: str) -> None:
    reply = client.request(method, SUMMARY)
    assert (reply.status_code, reply.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS"
