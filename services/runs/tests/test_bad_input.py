"""Bad input, field by field, and runs too large to be deleted lightly."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection
from starlette.testclient import TestClient

from services.runs.tests.bodies import AT, create, definition, execution, run_state, slice_of, stage, workflow
from sluice_core.database import Database
from sluice_core.rest import Boolean, Choice, DateTime, Field, Float, ForeignKey, Integer, Text, Uuid
from sluice_core.settings import postgres_url
from sluice_core.testing.tokens import Tokens
from sluice_runs.resources import RESOURCES

FILL = """
    INSERT INTO stf_file (file_id, machine_state, stf_filename, status, run_id)
    SELECT gen_random_uuid(), 'run', n || '.stf', 'processed', {run} FROM generate_series(1, 50000) AS n;
    INSERT INTO fastmon_file (tf_file_id, stf_file_id, tf_filename, status)
    SELECT gen_random_uuid(), file_id, stf_filename || '.tf', 'registered' FROM stf_file;
    ANALYZE
"""


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


@pytest.fixture
def sql(service_database: str) -> Iterator[Connection]:
    """A connection beside the service's."""
    database = Database(postgres_url(service_database), pool_size=1)
    with database.engine.connect() as connection:
        yield connection
    database.close()


def bad(field: Field) -> list[Any]:
    """Return what a field cannot be."""
    found: list[Any] = [] if field.null else [None]
    match field:
        case Integer():
            high = 2 ** (field.bits - 1)
            found += [high, -high - 1, 10**40, "x", 1.5, "", [], {}]
        case Choice():
            found += ["zz", "x" * 300, [], {}]
        case Text():
            found += [{}, [], True, "a\0b", "\ud800", *(["x" * (field.max_length + 1)] if field.max_length else [])]
            found += [] if field.blank else ["", " "]
        case Uuid():
            found += ["y", 1.5, [], "00000000-0000-0000-0000-00000000000g"]
        case DateTime():
            found += ["yesterday", "2026-13-01T00:00:00", "24:00:00", 5, [], {}]
        case Float():
            found += ["NaN", "x", [], 10**400]
        case Boolean():
            found += ["perhaps", 2, [], {}]
        case ForeignKey():
            found += ["\0", [], {}]
    return found


@pytest.fixture
def whole(agent: TestClient) -> dict[str, dict[str, Any]]:
    """A body for each resource that would be stored, its relations included."""
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    stf = create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})["file_id"]
    wf = create(agent, "workflows", workflow())["workflow_id"]
    wd = create(agent, "workflow-definitions", definition())["id"]
    event = {"timestamp": AT, "run_number": 101, "event_type": "x", "state": "x", "event_data": 0}
    return {
        "runs": {"run_number": 102, "start_time": AT},
        "stf-files": {"run": run, "stf_filename": "b.stf"},
        "fastmon-files": {"stf_file": "a.stf", "tf_filename": "b.tf"},
        "tf-slices": slice_of(101, 0),
        "run-states": run_state(102),
        "system-state-events": event,
        "workflows": workflow(filename="b.stf"),
        "workflow-stages": stage(wf),
        "workflow-definitions": definition(version="2.0"),
        "workflow-executions": execution(wd),
        "message-dispatches": {"stf_file": stf},
    }


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda each: each.name)
def test_each_field_refuses_what_it_cannot_be_and_nothing_is_written(
    agent: TestClient, whole: dict[str, dict[str, Any]], resource: Any
) -> None:
    def refused(method: str, url: str, given: dict[str, Any]) -> list[str]:
        # As a client that escapes what is no text would send it.
        headers = {"Content-Type": "application/json"}
        reply = agent.request(method, url, content=json.dumps(given), headers=headers)
        assert reply.status_code == 400, (given, reply.text)
        return list(reply.json())

    body, before = whole[resource.name], agent.get(resource.path).json()
    for field in resource.writable:
        for value in bad(field):
            assert refused("POST", resource.path, {**body, field.name: value}) == [field.name], value
    assert agent.get(resource.path).json() == before
    row = create(agent, resource.name, body)
    url = f"{resource.path}{row[resource.key]}/"
    for field in resource.writable:
        for value in bad(field)[:1]:
            assert refused("PATCH", url, {field.name: value}) == [field.name], value
    assert agent.get(url).json() == row


@pytest.mark.parametrize(
    ("path", "key", "other"),
    [("run-states", "run_number", 103), ("workflow-executions", "execution_id", "wd-ada-0009")],
)
def test_a_key_that_clients_give_cannot_be_changed(
    agent: TestClient, whole: dict[str, dict[str, Any]], path: str, key: str, other: Any
) -> None:
    """Decision 13."""
    row = create(agent, path, whole[path])
    url = f"/api/{path}/{row[key]}/"
    for method in ("PATCH", "PUT"):
        refused = agent.request(method, url, json={**whole[path], key: other})
        assert (refused.status_code, list(refused.json())) == (400, [key])
    assert agent.get(url).json() == row


def test_a_run_with_100000_files_is_deleted_whole_and_holds_up_nobody_else(agent: TestClient, sql: Connection) -> None:
    run, other = (create(agent, "runs", {"run_number": n, "start_time": AT})["run_id"] for n in (101, 102))
    sql.exec_driver_sql(FILL.format(run=run))
    sql.commit()
    # What deleting locks, held for as long as we please.
    sql.exec_driver_sql("DELETE FROM run WHERE run_id = %s", (run,))
    mine = create(agent, "stf-files", {"run": other, "stf_filename": "other.stf"})
    assert agent.patch(f"/api/stf-files/{mine['file_id']}/", json={"status": "processed"}).status_code == 200
    create(agent, "fastmon-files", {"stf_file": "other.stf", "tf_filename": "other.tf"})
    assert len(agent.get("/api/runs/").json()) == 2
    sql.rollback()
    assert agent.delete(f"/api/runs/{run}/").status_code == 204
    counts = "SELECT (SELECT count(*) FROM stf_file), (SELECT count(*) FROM fastmon_file), count(*) FROM outbox"
    files, samples, events = sql.exec_driver_sql(counts).one()
    assert (files, samples) == (1, 1)
    # One event for the run, none for each of its files.
    assert events < 10
    late = agent.post("/api/stf-files/", json={"run": run, "stf_filename": "late.stf"})
    assert late.json() == {"run": [f'Invalid pk "{run}" - object does not exist.']}
