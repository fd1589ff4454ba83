"""Finding records: filters, histogram, names of apps and instances."""

from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from .records import URL, record


def post(client: TestClient, *given: dict[str, Any]) -> None:
    reply = client.post(URL, json=[record(**each) for each in given])
    assert reply.json() == {"accepted": len(given), "rejected": []}, reply.text


def found(client: TestClient, **query: Any) -> list[str]:
    reply = client.get(URL, params=query)
    assert reply.status_code == 200, reply.text
    return sorted(each["message"] for each in reply.json())


def test_a_level_and_what_is_more_severe_by_number_or_name(client: TestClient) -> None:
    post(client, *({"level": level, "message": str(level)} for level in (0, 10, 20, 30, 40, 50)))
    assert found(client, level__gte=30) == found(client, level__gte="warning") == ["30", "40", "50"]
    assert found(client, level__gte="NOTSET", level=20) == ["20"]
    reply = client.get(URL, params={"level__gte": "loud"})
    assert (reply.status_code, reply.json()) == (400, {"level__gte": ["A valid integer is required."]})


def test_fields_of_extra_data_are_compared_as_text(client: TestClient) -> None:
    post(
        client,
        {"message": "a", "extra_data": {"execution_id": "fast-ada-0001", "run_id": 7, "username": "ada"}},
        {"message": "b", "extra_data": {"execution_id": "fast-ada-0002", "run_id": "7", "workflow_name": "wf"}},
        {"message": "c", "extra_data": ["execution_id"]},
        {"message": "d", "extra_data": None},
    )
    assert found(client, execution_id="fast-ada-0002") == ["b"]
    assert found(client, run_id=7) == ["a", "b"]
    assert found(client, username="ada", run_id="7") == ["a"]
    assert found(client, workflow_name="wf", execution_id="fast-ada-0001") == []
    assert found(client, execution_id="' OR 1=1 --") == []


def test_a_search_within_a_window_of_time(client: TestClient) -> None:
    post(
        client,
        {"message": "lost link 1", "timestamp": "2026-05-05T10:00:00Z"},
        {"message": "lost link 2", "timestamp": "2026-05-05T11:00:00Z"},
        {"message": "found link", "timestamp": "2026-05-05T11:00:00Z"},
    )
    assert found(client, search="link lost", start_time="2026-05-05T10:30:00Z") == ["lost link 2"]


def test_an_execution_is_found_by_its_index(client: TestClient) -> None:
    post(client, *({"extra_data": {"execution_id": f"e-{number}"}} for number in range(3)))
    statement = text("SELECT id FROM log_record WHERE extra_data ->> 'execution_id' = 'e-1' ORDER BY timestamp DESC")
    database = client.app.state.service.database  # type: ignore[attr-defined]

    def explain(connection: Any) -> str:
        connection.execute(text("SET enable_seqscan = off"))
        plan = connection.execute(text(f"EXPLAIN {statement}")).scalars().all()
        connection.execute(text("RESET enable_seqscan"))
        return "\n".join(plan)

    assert "_expr_timestamp_id_idx" in database.read(explain)


# Histogram


def histogram(client: TestClient, **query: Any) -> Any:
    return client.get(f"{URL}histogram/", params=query)


def test_a_histogram_counts_by_time_and_level(client: TestClient) -> None:
    post(
        client,
        {"timestamp": "2026-05-05T10:00:00Z"},
        {"timestamp": "2026-05-05T10:09:59.999Z"},
        {"timestamp": "2026-05-05T10:10:00Z", "level": 40, "message": "lost link"},
        {"timestamp": "2026-05-05T10:30:00Z"},
        {"timestamp": "2026-05-05T09:59:59Z"},
    )
    window = {"start_time": "2026-05-05T10:00:00Z", "end_time": "2026-05-05T10:30:00Z", "interval": "10m"}
    assert histogram(client, **window).json() == {
        "start": "2026-05-05T10:00:00Z",
        "interval": 600.0,
        "buckets": [
            {"start": "2026-05-05T10:00:00Z", "counts": {"INFO": 2}},
            {"start": "2026-05-05T10:10:00Z", "counts": {"ERROR": 1}},
            {"start": "2026-05-05T10:20:00Z", "counts": {}},
        ],
    }
    searched = histogram(client, search="lost", app_name="base_agent", **window).json()["buckets"]
    assert [each["counts"] for each in searched] == [{}, {"ERROR": 1}, {}]


def test_a_histogram_without_a_window_shows_the_last_day_in_a_hundred_steps_at_the_most(client: TestClient) -> None:
    answer = histogram(client).json()
    assert answer["interval"] * len(answer["buckets"]) == 24 * 3600
    assert len(answer["buckets"]) <= 100


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"interval": "often"}, "interval"),
        ({"interval": "1ms"}, "interval"),
        ({"interval": "1s", "start_time": "2026-01-01", "end_time": "2026-01-02"}, "interval"),
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "2026-01-02", "end_time": "2026-01-02"}, "end_time"),
        ({"end_time": "0001-01-01"}, "end_time"),
        ({"level": "x"}, "level"),
    ],
)
def test_a_bad_parameter_of_the_histogram_is_a_problem_that_names_it(
    client: TestClient, query: dict[str, str], field: str
) -> None:
    reply = histogram(client, **query)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert [each["field"] for each in reply.json()["errors"]] == [field]


# Names


def test_apps_and_instances_are_listed_without_a_look_at_the_records(client: TestClient) -> None:
    post(client, {"instance_name": "b"}, {"instance_name": "a"}, {"instance_name": "a"}, {"app_name": "other"})
    day = client.get(f"{URL}apps/").json()[0]["last_arrival"]
    assert client.get(f"{URL}apps/").json() == [
        {"app_name": "base_agent", "instances": 2, "records": 3, "last_arrival": day},
        {"app_name": "other", "instances": 1, "records": 1, "last_arrival": day},
    ]
    names = client.get(f"{URL}instances/", params={"app_name": "base_agent"}).json()
    assert [(each["instance_name"], each["records"]) for each in names] == [("a", 2), ("b", 1)]
    assert len(client.get(f"{URL}instances/").json()) == 3
    assert len(client.get(f"{URL}instances/?limit=1").json()) == 1
    assert client.get(f"{URL}apps/?limit=0").json()["errors"][0]["field"] == "limit"
    assert client.get(f"{URL}instances/?app_name=%00").status_code == 400


def test_new_questions_are_open_as_lists_are_and_close_with_them(start: Any) -> None:
    closed = start(shared={"anonymous_read": False})
    for name in ("histogram", "apps", "instances"):
        assert closed.get(f"{URL}{name}/").status_code == 403
