"""Run life from messages (decisions 15 and 19; contract 13; swf-clients.md 5.1 and 8)."""

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from starlette.testclient import TestClient

from services.runs.tests.bodies import create, definition, execution, run_state, slice_of
from sluice_core.bus import Poison
from sluice_core.database import Database
from sluice_core.rest.store import ResourceStore
from sluice_core.settings import postgres_url
from sluice_core.testing.tokens import Tokens
from sluice_runs.messages import LIFECYCLE, Said, read
from sluice_runs.resources import RESOURCES
from sluice_runs.service.events import Events
from sluice_runs.service.life import Lives
from sluice_runs.store.life import Life

START = datetime(2026, 5, 5, 10, tzinfo=UTC)
CAME = datetime(2026, 11, 1, tzinfo=UTC)
WORDS = ("phase", "state", "substate", "state_changed_at")


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


def said(msg_type: str, seconds: float = 0, run: Any = "101", message_id: UUID | None = None, **content: Any) -> Said:
    """Return a message as it lies in the stream, read."""
    body = {
        "msg_type": msg_type,
        "namespace": "n1",
        "sender": "daq_simulator-agent-ada-1",
        "execution_id": "wd-ada-0001",
        "run_id": run,
        "timestamp": (START + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(),
        **content,
    }
    headers = {"Sluice-Id": str(message_id or uuid4()), "Sluice-At": CAME.isoformat()}
    found = read(headers, msgspec.json.encode(body), UTC)
    assert found is not None
    return found


def result(slice_id: int, seconds: float = 0, state: str = "done", tf: str = "swf.101.000001_tf_001") -> Said:
    name = f"{tf}_slice_{slice_id:03d}.tf"
    return said(
        "slice_result",
        content={
            "state": state,
            "processed_at": (START + timedelta(seconds=seconds)).isoformat(),
            "hostname": "worker-7",
            "panda_task_id": 4242,
            "panda_id": 17,
            "harvester_id": "h1",
            "processing_start_at": START.isoformat(),
            "result": {"result": {"slice_id": slice_id, "tf_filename": name, "processed": True, "state": state}},
        },
    )


def follow(client: TestClient, *messages: Said) -> dict[UUID, str]:
    database = client.app.state.service.database  # type: ignore[attr-defined]
    lives = Lives(RESOURCES, Events(lambda: None))
    refused: dict[UUID, str] = database.transact(partial(lives.follow, messages=list(messages)))
    return refused


def stands(client: TestClient, number: int = 101) -> tuple[Any, ...]:
    row = client.get(f"/api/run-states/{number}/").json()
    return tuple(row[name] for name in WORDS)


def test_lifecycle_messages_make_and_move_a_run_state(agent: TestClient) -> None:
    follow(agent, said("run_imminent", 0, state="beam", substate="not_ready"))
    assert stands(agent) == ("initializing", "beam", "not_ready", "2026-05-05T10:00:00Z")
    for at, kind, expected in (
        (1, "start_run", ("physics", "run", "physics")),
        (2, "pause_run", ("physics", "run", "standby")),
        (3, "resume_run", ("physics", "run", "physics")),
        (4, "end_run", ("completed", "ended", None)),
    ):
        follow(agent, said(kind, at))
        assert stands(agent) == (*expected, f"2026-05-05T10:00:0{at}Z")
    assert agent.get("/api/runs/").json() == []


def test_a_late_message_does_not_reopen_an_ended_run_and_is_recorded(agent: TestClient) -> None:
    follow(agent, said("run_imminent"), said("start_run", 1), said("end_run", 4))
    follow(agent, said("pause_run", 2), said("resume_run", 5))
    assert stands(agent)[1] == "ended"
    assert messages(agent) == ["run_imminent", "start_run", "pause_run", "end_run", "resume_run"]


def messages(client: TestClient) -> list[str | None]:
    return [message for _, message, *_ in history(client)]


def history(client: TestClient) -> list[tuple[Any, ...]]:
    database = client.app.state.service.database  # type: ignore[attr-defined]
    found: list[tuple[Any, ...]] = database.read(partial(lines, number=101))
    return found


def lines(connection: Connection, number: int) -> list[tuple[Any, ...]]:
    names = ("at", "message_type", "source", "phase", "state", "substate", "sender", "execution_id", "namespace")
    return [tuple(row[name] for name in names) for row in Life(connection).history(number, 1000)]


def test_no_message_overwrites_a_newer_write_of_a_client(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101, state_changed_at="2026-05-05T10:00:00"))
    follow(agent, said("run_imminent", 5), said("start_run", 10))
    body = {"phase": "physics", "state": "running", "substate": "physics", "state_changed_at": "2026-05-05T10:00:12"}
    agent.patch("/api/run-states/101/", json=body)
    follow(agent, said("pause_run", 11))
    assert stands(agent) == ("physics", "running", "physics", "2026-05-05T10:00:12Z")
    follow(agent, said("pause_run", 13))
    assert stands(agent) == ("physics", "run", "standby", "2026-05-05T10:00:13Z")
    # Counters say nothing about the state.
    agent.patch("/api/run-states/101/", json={"slices_created": 7, "state_changed_at": "2026-05-05T10:00:20"})
    follow(agent, said("resume_run", 15))
    assert stands(agent)[:3] == ("physics", "run", "physics")
    # A client ends it, and says so again: no message opens it.
    agent.patch("/api/run-states/101/", json={**body, "phase": "completed", "state": "ended", "substate": None})
    follow(agent, said("resume_run", 60))
    assert stands(agent)[:3] == ("completed", "ended", None)
    agent.patch("/api/run-states/101/", json=body)
    assert stands(agent)[1] == "running"


def test_a_clock_that_runs_ahead_does_not_decide_for_ever(agent: TestClient) -> None:
    ahead = said("pause_run", 10**9)
    assert ahead.at == CAME
    follow(agent, ahead)
    agent.patch("/api/run-states/101/", json={"state": "x", "state_changed_at": "2026-05-05T10:00:00"})
    follow(agent, said("start_run", 5))
    assert stands(agent)[1] == "x"


def test_a_row_that_messages_made_makes_room_for_the_runners(agent: TestClient) -> None:
    follow(agent, said("run_imminent"), said("start_run", 10))
    made = create(agent, "run-states", run_state("101", state_changed_at="2026-05-05T09:59:59"))
    assert (made["state"], made["substate"], made["target_worker_count"]) == ("run", "physics", 30)
    assert messages(agent) == [None, "run_imminent", "start_run"]
    again = agent.post("/api/run-states/", json=run_state(101))
    assert again.json() == {"run_number": ["run state with this run number already exists."]}
    assert agent.delete("/api/run-states/101/").status_code == 204
    assert history(agent) == []


ONE = st.tuples(st.sampled_from([*LIFECYCLE]), st.integers(0, 4), st.integers(0, 1000))
SENT = st.lists(ONE, min_size=1, max_size=7, unique_by=lambda each: each[2])
NUMBERS = itertools.count(1000)


@pytest.fixture
def database(service_database: str) -> Iterator[Database]:
    """The service's database alone: a running one draws random pauses, which Hypothesis takes for its own."""
    found = Database(postgres_url(service_database), pool_size=1)
    yield found
    found.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SENT, st.integers(0, 2**32))
def test_any_interleaving_of_lifecycle_messages_ends_in_the_same_state_and_history(
    database: Database, sent: list[tuple[str, int, int]], seed: int
) -> None:
    chance, outcomes = random.Random(seed), []
    lives, states = Lives(RESOURCES, Events(lambda: None)), ResourceStore(RESOURCES["state"])
    for number in itertools.islice(NUMBERS, 2):
        found = [said(kind, at, number, UUID(int=number << 32 | own)) for kind, at, own in sent]
        # Some come twice, in any order, in batches of any size.
        order = [*found, *chance.sample(found, chance.randint(0, len(found)))]
        chance.shuffle(order)
        while order:
            size = chance.randint(1, len(order))
            database.transact(partial(lives.follow, messages=order[:size]))
            order = order[size:]
        row = database.read(partial(states.get, key=number))
        assert row is not None
        history = database.read(partial(lines, number=number))
        outcomes.append(([row[name] for name in WORDS], history))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][1]) == len(sent)


def test_500_results_sent_three_times_in_any_order_leave_rows_and_counters_exact(agent: TestClient) -> None:
    items = [slice_of(101, n) for n in range(500)]
    assert agent.post("/api/tf-slices/", json=items).json()["accepted"] == 500
    create(agent, "run-states", run_state(101, slices_created=500, slices_queued=500))
    sent = [result(n, n, "error" if n % 10 == 0 else "done") for n in range(500) for _ in range(3)]
    random.Random(8).shuffle(sent)
    for at in range(0, len(sent), 400):
        assert follow(agent, *sent[at : at + 400]) == {}
        follow(agent, *sent[at : at + 50])  # delivered again
    rows = agent.get("/api/tf-slices/").json()
    assert {row["slice_id"]: row["status"] for row in rows} == {
        n: "failed" if n % 10 == 0 else "completed" for n in range(500)
    }
    state = agent.get("/api/run-states/101/").json()
    assert [state[f"slices_{each}"] for each in ("created", "queued", "processing", "completed", "failed")] == [
        500,
        0,
        0,
        450,
        50,
    ]


def test_a_result_finishes_exactly_its_row_which_the_agent_then_finds_scenario_9_of_swf_clients(
    agent: TestClient,
) -> None:
    tfs = [f"swf.101.000001_tf_00{n}" for n in (1, 2, 3)]
    rows = [create(agent, "tf-slices", slice_of(101, 3, tf)) for tf in tfs]
    follow(agent, result(3, 7, tf=tfs[1]))
    found = agent.get("/api/tf-slices/?run_number=101&slice_id=3").json()
    assert [row["id"] for row in found] == [rows[1]["id"], rows[0]["id"], rows[2]["id"]]
    assert found[0]["status"] == "completed"
    assert found[0]["completed_at"] == "2026-05-05T10:00:07Z"
    assert found[0]["metadata"]["worker_hostname"] == found[0]["assigned_worker"] == "worker-7"
    assert found[0]["metadata"]["created_by"] == rows[1]["metadata"]["created_by"]
    assert {row["status"] for row in found[1:]} == {"queued"}
    agent.patch(f"/api/tf-slices/{rows[1]['id']}/", json={"status": "completed", "metadata": {"panda_id": 17}})
    found = agent.get("/api/tf-slices/?run_number=101&slice_id=3").json()
    assert [row["id"] for row in found] == [rows[0]["id"], rows[2]["id"], rows[1]["id"]]
    # The message once more, late: the client's write stays.
    follow(agent, result(3, 7, tf=tfs[1]))
    assert agent.get(f"/api/tf-slices/{rows[1]['id']}/").json()["metadata"] == {"panda_id": 17}


def test_a_newer_result_replaces_an_older_one_in_any_order(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101, slices_created=2, slices_queued=2))
    for n in (0, 1):
        create(agent, "tf-slices", slice_of(101, n))
    follow(agent, result(0, 1, "error"), result(0, 2), result(1, 2))
    follow(agent, result(1, 1, "error"))
    state = agent.get("/api/run-states/101/").json()
    assert (state["slices_queued"], state["slices_completed"], state["slices_failed"]) == (0, 2, 0)
    assert {row["status"] for row in agent.get("/api/tf-slices/").json()} == {"completed"}


def test_a_result_of_a_slice_that_nobody_made_may_be_sent_again(agent: TestClient) -> None:
    sent = result(0)
    assert list(follow(agent, sent)) == [sent.message_id]
    create(agent, "tf-slices", slice_of(101, 0))
    assert follow(agent, sent) == {}
    assert agent.get("/api/tf-slices/").json()[0]["status"] == "completed"


def test_an_execution_that_is_terminated_closes_its_run_scenario_8_of_swf_clients(agent: TestClient) -> None:
    """Decision 19."""
    wd = create(agent, "workflow-definitions", definition())["id"]
    create(agent, "workflow-executions", execution(wd))
    create(agent, "run-states", run_state("101"))
    create(agent, "run-states", run_state("102", metadata={"execution_id": "wd-ada-0002"}))
    for number in (101, 102):
        create(agent, "runs", {"run_number": number, "start_time": "2026-05-05T10:00:00"})
    follow(agent, said("start_run", 1))
    url = "/api/workflow-executions/wd-ada-0001/"
    ended = agent.patch(url, json={"status": "completed", "end_time": "2026-05-05T10:01:00"})
    assert stands(agent)[1] == "run"
    assert (
        agent.patch(url, json={"status": "terminated", "end_time": None}).json()["end_time"] == ended.json()["end_time"]
    )
    assert stands(agent)[:3] == ("completed", "ended", None)
    ends = {row["run_number"]: row["end_time"] for row in agent.get("/api/runs/").json()}
    assert ends == {101: "2026-05-05T10:01:00Z", 102: None}
    assert stands(agent, 102)[1] == "imminent"
    follow(agent, said("resume_run", 5))
    assert stands(agent)[1] == "ended"


@pytest.mark.parametrize(
    "body",
    [
        {"msg_type": "start_run", "run_id": "7", "state": "x" * 21},
        {"msg_type": "start_run", "run_id": "7", "state": None},
        {"msg_type": "pause_run", "run_id": 7, "substate": []},
        {"msg_type": "slice_result", "run_id": "7", "content": {"result": {"result": {"slice_id": 1}}}},
        {"msg_type": "slice_result", "run_id": "7", "content": []},
        {"msg_type": "slice_result", "run_id": "7", "content": {"result": {"tf_filename": "x" * 256, "slice_id": 1}}},
        [],
    ],
)
def test_a_message_that_cannot_be_followed_is_parked(body: Any) -> None:
    headers = {"Sluice-Id": str(uuid4()), "Sluice-At": CAME.isoformat()}
    with pytest.raises(Poison):
        read(headers, msgspec.json.encode(body), UTC)


@pytest.mark.parametrize("run", [None, "test-run-001", "1.5", True, 2**31, "", "9" * 5000, {"a": 1}, "٣"])
def test_a_message_about_no_run_number_moves_nothing(run: Any) -> None:
    headers = {"Sluice-Id": str(uuid4()), "Sluice-At": CAME.isoformat()}
    assert read(headers, msgspec.json.encode({"msg_type": "start_run", "run_id": run}), UTC) is None
