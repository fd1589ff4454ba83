"""What is stale is shown and told, never repaired (decision 19)."""

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.runs.tests.bodies import AT, create, definition, execution, run_state
from services.runs.tests.test_life import follow, said
from sluice_core.testing.tokens import Tokens
from sluice_runs.service.events import Events
from sluice_runs.service.stale import Stale

LONG, SHORT = timedelta(days=10**4), timedelta(microseconds=1)
RUNNER = "daq_simulator-agent-ada-1"


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


def looking(client: TestClient, **ages: timedelta) -> Stale:
    database = client.app.state.service.database  # type: ignore[attr-defined]
    every = {"execution": LONG, "state": LONG, "stf": LONG, **ages}
    return Stale(database, Events(lambda: None), every)


def shown(client: TestClient) -> list[tuple[Any, ...]]:
    rows = client.get("/api/runs/stale/").json()
    return [(row["kind"], row["run_number"], row["execution_id"], row["namespace"]) for row in rows]


def told(client: TestClient) -> list[str]:
    database = client.app.state.service.database  # type: ignore[attr-defined]
    query = "SELECT schema FROM outbox WHERE subject = 'runs.stale' ORDER BY id"
    return list(database.read(lambda connection: connection.exec_driver_sql(query).scalars().all()))


def test_an_execution_without_a_live_runner_is_shown_until_it_has_one_or_ends(agent: TestClient) -> None:
    wd = create(agent, "workflow-definitions", definition())["id"]
    create(agent, "workflow-executions", execution(wd))
    create(agent, "run-states", run_state(101))
    silent = looking(agent, execution=SHORT)
    silent.look()
    assert shown(agent) == [("execution", None, "wd-ada-0001", "n1")]
    follow(agent, said("start_run"))
    silent.agents({RUNNER: True})
    silent.look()
    assert shown(agent) == []
    # However short the silence: its runner has gone.
    patient = looking(agent)
    patient.agents({RUNNER: False})
    patient.look()
    assert shown(agent) == [("execution", None, "wd-ada-0001", "n1")]
    assert agent.get("/api/workflow-executions/wd-ada-0001/").json()["status"] == "running"
    agent.patch("/api/workflow-executions/wd-ada-0001/", json={"status": "failed"})
    patient.look()
    patient.look()
    assert shown(agent) == []
    assert told(agent) == ["stale.noticed;v=1", "stale.mended;v=1"] * 2


def test_a_run_that_does_not_end_is_stuck(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101))
    create(agent, "run-states", run_state(102, phase="completed", state="ended"))
    looking(agent).look()
    assert shown(agent) == []
    looking(agent, state=SHORT).look()
    assert shown(agent) == [("state", 101, "wd-ada-0001", None)]
    follow(agent, said("end_run", 4))
    looking(agent, state=SHORT).look()
    assert shown(agent) == []


def test_a_file_that_nobody_processes_is_shown(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    stf = create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})["file_id"]
    create(agent, "stf-files", {"run": run, "stf_filename": "b.stf", "status": "processed"})
    agent.patch(f"/api/stf-files/{stf}/", json={"status": "processing"})
    looking(agent, stf=SHORT).look()
    assert shown(agent) == [("stf", 101, None, None)]
    agent.patch(f"/api/stf-files/{stf}/", json={"status": "done"})
    looking(agent, stf=SHORT).look()
    assert shown(agent) == []
