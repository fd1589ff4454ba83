"""The resources (swf-monitor.md 3.3 to 3.7, 3.10 to 3.12, 3.14 to 3.16), and the acceptance scenarios about them."""

import re
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from services.runs.tests.bodies import AT, create, definition, execution, run_state, slice_of, stage, workflow
from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens
from sluice_runs.resources import RESOURCES

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


def ids(client: TestClient, path: str, key: str) -> list[Any]:
    reply = client.get(f"/api/{path}")
    assert reply.status_code == 200, reply.text
    return [row[key] for row in reply.json()]


def test_run_life_scenario_5_of_swf_monitor(start: Start, tokens: Tokens) -> None:
    client = start(shared={"timezone": "America/New_York"})
    client.headers.update(tokens.header("runs:write"))
    row = create(client, "runs", {"run_number": "101", "start_time": AT})
    assert row == {
        "run_id": row["run_id"],
        "run_number": 101,
        "start_time": "2026-05-05T10:00:00-04:00",
        "end_time": None,
        "run_conditions": None,
    }
    again = client.post("/api/runs/", json={"run_number": 101, "start_time": "2026-05-05T10:00:01"})
    assert (again.status_code, again.json()) == (400, {"run_number": ["run with this run number already exists."]})
    assert row["run_id"] != 101
    absent = client.get("/api/runs/101/")
    assert (absent.status_code, absent.json()) == (404, {"detail": "No Run matches the given query."})
    assert client.get("/api/runs/abc/").json() == {"detail": "Not found."}


def test_stf_and_tf_files_scenario_6_of_swf_monitor(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    stf = create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})
    assert (stf["machine_state"], stf["status"], list(stf)[-1]) == ("physics", "registered", "run")
    assert UUID.fullmatch(stf["file_id"])
    tf = create(agent, "fastmon-files", {"stf_file": "a.stf", "tf_filename": "a_tf_1.tf"})
    assert tf["stf_file"] == "a.stf"
    refused = agent.post("/api/fastmon-files/", json={"stf_file": "none.stf", "tf_filename": "b"})
    errors = {"stf_file": ["Object with stf_filename=none.stf does not exist."]}
    assert (refused.status_code, refused.json()) == (400, errors)
    assert agent.delete(f"/api/runs/{run}/").status_code == 204
    assert agent.get(f"/api/stf-files/{stf['file_id']}/").json() == {"detail": "No StfFile matches the given query."}
    assert agent.get(f"/api/fastmon-files/{tf['tf_file_id']}/").status_code == 404


def test_patch_ignores_unknown_and_read_only_keys_scenario_7_of_swf_monitor(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    stf = create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})
    url = f"/api/stf-files/{stf['file_id']}/"
    changed = agent.patch(url, json={"status": "done", "nope": 1, "file_id": str(uuid4())})
    assert (changed.status_code, changed.json()) == (200, {**stf, "status": "done"})
    refused = agent.patch(url, json={"status": "zzz"})
    assert (refused.status_code, refused.json()) == (400, {"status": ['"zzz" is not a valid choice.']})


def test_definitions_are_filtered_scenario_14_of_swf_monitor(agent: TestClient) -> None:
    for version in ("1.0", "2.0"):
        create(agent, "workflow-definitions", definition(version=version))
    found = agent.get("/api/workflow-definitions/?workflow_name=wd&version=1.0").json()
    assert [row["version"] for row in found] == ["1.0"]
    assert found[0]["parameter_values"] == {"fast_processing": {"stf_count": 2}}
    assert agent.get("/api/workflow-definitions/?workflow_name=zz").json() == []
    again = agent.post("/api/workflow-definitions/", json=definition(workflow_type="other"))
    errors = {"non_field_errors": ["The fields workflow_name, version must make a unique set."]}
    assert (again.status_code, again.json()) == (400, errors)


def test_executions_are_filtered_scenario_15_of_swf_monitor(agent: TestClient) -> None:
    wd = create(agent, "workflow-definitions", definition())["id"]
    create(agent, "workflow-executions", execution(wd))
    create(agent, "workflow-executions", execution(wd, execution_id="wd-ada-0002", status="completed"))
    assert ids(agent, "workflow-executions/?status=running", "execution_id") == ["wd-ada-0001"]
    assert len(ids(agent, "workflow-executions/?workflow_name=wd&namespace=n1&executed_by=ada", "execution_id")) == 2
    assert ids(agent, "workflow-executions/?workflow_name=other", "execution_id") == []


def test_a_slice_is_found_by_run_and_id_scenario_16_of_swf_monitor(agent: TestClient) -> None:
    for number in (5, 6):
        create(agent, "tf-slices", slice_of(number, 1, f"swf.{number}.000001_tf_001"))
    found = agent.get("/api/tf-slices/?run_number=6&slice_id=1").json()
    assert [(row["run_number"], row["slice_id"]) for row in found] == [(6, 1)]
    refused = agent.get("/api/tf-slices/?run_number=six")
    assert (refused.status_code, refused.json()) == (400, {"run_number": ["A valid integer is required."]})


def test_of_slices_with_one_id_those_still_queued_come_first(agent: TestClient) -> None:
    """swf-clients.md 5.1: element 0 is what the agent writes to."""
    rows = [create(agent, "tf-slices", slice_of(5, 1, f"swf.5.000001_tf_00{n}"))["id"] for n in (1, 2, 3)]
    agent.patch(f"/api/tf-slices/{rows[0]}/", json={"status": "completed"})
    assert ids(agent, "tf-slices/?run_number=5&slice_id=1", "id") == [rows[1], rows[2], rows[0]]
    assert ids(agent, "tf-slices/?run_number=5", "id") == rows


def test_both_ways_to_name_a_slice_refer_to_one_tf_file_scenario_11_of_swf_clients(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    create(agent, "stf-files", {"run": run, "stf_filename": "swf.101.000001.stf"})
    tf = "swf.101.000001_tf_001.tf"
    create(agent, "fastmon-files", {"stf_file": "swf.101.000001.stf", "tf_filename": tf})
    flat = create(agent, "tf-slices", slice_of("101", 0))
    body = slice_of(101, 1, fastmon_file=tf)
    del body["tf_filename"], body["stf_filename"]
    related = create(agent, "tf-slices", body)
    assert flat["fastmon_file"] == related["fastmon_file"] == tf
    assert flat["stf_filename"] == related["stf_filename"] == "swf.101.000001.stf"
    assert related["tf_filename"] == "swf.101.000001_tf_001_slice_001.tf"
    assert ids(agent, f"tf-slices/?fastmon_file={tf}", "slice_id") == [0, 1]
    # The same slice in the other way of saying it.
    again = agent.post("/api/tf-slices/", json={**body, "slice_id": 0, "status": "processing"})
    errors = {"non_field_errors": ["The fields tf_filename, slice_id must make a unique set."]}
    assert (again.status_code, again.json()) == (400, errors)
    absent = agent.post("/api/tf-slices/", json={**body, "fastmon_file": "none.tf"})
    errors = {"fastmon_file": ["Object with tf_filename=none.tf does not exist."]}
    assert (absent.status_code, absent.json()) == (400, errors)
    neither = agent.post("/api/tf-slices/", json={**body, "fastmon_file": None})
    assert neither.json() == {"fastmon_file": ["This field may not be null."]}
    del body["fastmon_file"]
    neither = agent.post("/api/tf-slices/", json=body)
    assert neither.json() == {name: ["This field is required."] for name in ("tf_filename", "stf_filename")}


def test_what_fast_monitoring_sends_comes_back(agent: TestClient) -> None:
    """swf-clients.md 5: the values are forwarded in a message."""
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})
    body = {
        "stf_file": "a.stf",
        "tf_filename": "a_tf_001.tf",
        "tf_first": 1,
        "tf_last": 143,
        "tf_count": 143,
        "file_size_bytes": 15 * 10**9,
        "status": "registered",
        "metadata": {"simulation": True, "start": AT},
    }
    row = create(agent, "fastmon-files", body)
    assert {name: row[name] for name in body} == body


def test_a_run_state_keeps_its_key_and_takes_any_words(agent: TestClient) -> None:
    row = create(agent, "run-states", run_state("101"))
    assert row == {**run_state(101), "state_changed_at": "2026-05-05T10:00:00Z", "updated_at": row["updated_at"]}
    url = "/api/run-states/101/"
    changed = agent.patch(url, json={"phase": "physics", "state": "running", "substate": "", "slices_created": "7"})
    assert changed.json() == {
        **row,
        "phase": "physics",
        "state": "running",
        "substate": "",
        "slices_created": 7,
        "updated_at": changed.json()["updated_at"],
    }
    moved = agent.patch(url, json={"run_number": 102})
    assert moved.status_code == 400
    assert ids(agent, "run-states/", "run_number") == [101]


def test_an_event_may_concern_no_run(agent: TestClient) -> None:
    body: dict[str, Any] = {
        "timestamp": AT,
        "run_number": None,
        "event_type": "end_run",
        "state": "unknown",
        "event_data": {},
    }
    assert create(agent, "system-state-events", body)["run_number"] is None
    create(agent, "system-state-events", {**body, "run_number": "7", "event_type": "run_imminent"})
    assert ids(agent, "system-state-events/?run_number=7", "event_type") == ["run_imminent"]
    assert ids(agent, "system-state-events/?event_type=end_run&state=unknown", "run_number") == [None]
    del body["run_number"]
    refused = agent.post("/api/system-state-events/", json=body)
    assert refused.json() == {"run_number": ["This field is required."]}


def test_stages_are_one_for_an_agent_and_go_with_their_workflow(agent: TestClient) -> None:
    row = create(agent, "workflows", workflow())
    assert (row["current_status"], row["current_agent"]) == ("generated", "daqsim")
    create(agent, "workflow-stages", stage(row["workflow_id"]))
    again = agent.post("/api/workflow-stages/", json=stage(row["workflow_id"]))
    errors = {"non_field_errors": ["The fields workflow, agent_name, agent_type must make a unique set."]}
    assert (again.status_code, again.json()) == (400, errors)
    assert agent.delete(f"/api/workflows/{row['workflow_id']}/").status_code == 204
    assert agent.get("/api/workflow-stages/").json() == []


def test_stages_come_by_their_workflows_newest_first_on_every_page(agent: TestClient) -> None:
    """Contract 2.5."""
    keys = []
    for hour, name in ((10, "old"), (12, "new")):
        row = create(agent, "workflows", workflow(filename=name, generated_time=f"2026-05-05T{hour}:00:00"))
        keys.append(row["workflow_id"])
    for at, name in ((0, "a"), (1, "b"), (0, "c"), (1, "d")):
        create(agent, "workflow-stages", stage(keys[at], agent_name=name))
    assert ids(agent, "workflow-stages/", "agent_name") == ["b", "d", "a", "c"]
    url, found = "/api/workflow-stages/?limit=1", []
    while url:
        page = agent.get(url).json()
        found += [row["agent_name"] for row in page["results"]]
        url = page["next"]
    assert found == ["b", "d", "a", "c"]
    assert "generated_time" not in agent.get("/api/workflow-stages/").json()[0]
    agent.patch(f"/api/workflows/{keys[0]}/", json={"generated_time": "2026-05-05T13:00:00"})
    assert ids(agent, "workflow-stages/", "agent_name") == ["a", "c", "b", "d"]
    refused = agent.post("/api/workflow-stages/", json=stage(str(uuid4())))
    assert (refused.status_code, list(refused.json())) == (400, ["workflow"])


def test_a_dispatch_is_about_a_file_and_goes_with_it(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    stf = create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})["file_id"]
    body = {"stf_file": stf, "is_successful": False, "error_message": "no broker", "message_content": [1, {"a": None}]}
    row = create(agent, "message-dispatches", body)
    assert {name: row[name] for name in body} == body
    assert ids(agent, "message-dispatches/?is_successful=false", "dispatch_id") == [row["dispatch_id"]]
    other = str(uuid4())
    absent = agent.post("/api/message-dispatches/", json={**body, "stf_file": other})
    assert absent.json() == {"stf_file": [f'Invalid pk "{other}" - object does not exist.']}
    agent.delete(f"/api/runs/{run}/")
    gone = agent.get(f"/api/message-dispatches/{row['dispatch_id']}/")
    assert (gone.status_code, gone.json()) == (404, {"detail": "No MessageQueueDispatch matches the given query."})


def test_an_execution_that_cannot_be_is_400_at_once_scenario_6_of_swf_clients(agent: TestClient) -> None:
    """Decision 17: after a 404 agents try again for 137 s."""
    for method in ("GET", "PATCH", "DELETE"):
        assert agent.request(method, "/api/workflow-executions/nope/", json={}).status_code == 400
    absent = agent.get("/api/workflow-executions/wd-ada-0007/")
    assert (absent.status_code, absent.json()) == (404, {"detail": "No WorkflowExecution matches the given query."})
    wd = create(agent, "workflow-definitions", definition())["id"]
    create(agent, "workflow-executions", execution(wd, execution_id="nope"))
    assert agent.get("/api/workflow-executions/nope/").status_code == 200


def test_the_end_of_an_execution_stays(agent: TestClient) -> None:
    """swf-clients.md 8 and 14: runners say null for it when they stop what has ended."""
    wd = create(agent, "workflow-definitions", definition())["id"]
    create(agent, "workflow-executions", execution(wd))
    url = "/api/workflow-executions/wd-ada-0001/"
    ended = agent.patch(url, json={"status": "completed", "end_time": "2026-05-05T11:00:00"}).json()
    stopped = agent.patch(url, json={"status": "terminated", "end_time": None}).json()
    assert stopped == {**ended, "status": "terminated"}


@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("stf-files", ("stf_filename=b.stf", "run_number=102", "status=done", "since=2126-01-01")),
        ("fastmon-files", ("tf_filename=b.tf", "stf_filename=b.stf", "run_number=102", "until=2000-01-01")),
    ],
)
def test_files_are_found_by_their_natural_keys(agent: TestClient, path: str, filters: tuple[str, ...]) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})
    create(agent, "fastmon-files", {"stf_file": "a.stf", "tf_filename": "a.tf"})
    same = ("stf_filename=a.stf", "run_number=101", "status=registered", "since=2020-01-01", "until=2126-01-01")
    assert len(agent.get(f"/api/{path}/?{'&'.join(same)}").json()) == 1
    for one in filters:
        assert agent.get(f"/api/{path}/?{one}").json() == [], one


def test_a_lookup_by_name_waits_for_no_reader_of_whole_lists(
    start: Start, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if all of their turns were taken for ever.
    monkeypatch.setattr("sluice_core.rest.listing.AT_ONCE", 0)
    client = start()
    client.headers.update(tokens.header("runs:write"))
    run = create(client, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    row = create(client, "stf-files", {"run": run, "stf_filename": "a.stf"})
    assert client.get("/api/stf-files/?stf_filename=a.stf&status=").json() == [row]
    assert client.get("/api/stf-files/?stf_filename=b.stf").json() == []
    assert ids(client, "runs/?run_number=101", "run_id") == [run]
    assert client.get("/api/runs/?run_number=x").json() == {"run_number": ["A valid integer is required."]}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("stf-files/?run_number=x", "run_number"),
        ("stf-files/?workflow_id=x", "workflow_id"),
        ("stf-files/?since=yesterday", "since"),
        ("runs/?run_number=99999999999", "run_number"),
        ("tf-slices/?slice_id=1.5", "slice_id"),
        ("message-dispatches/?is_successful=perhaps", "is_successful"),
    ],
)
def test_a_filter_that_cannot_be_read_is_400_and_named(agent: TestClient, query: str, parameter: str) -> None:
    reply = agent.get(f"/api/{query}")
    assert (reply.status_code, list(reply.json())) == (400, [parameter])


@pytest.mark.parametrize(
    ("path", "body", "errors"),
    [
        ("runs", {"run_number": 2**31, "start_time": AT}, ["run_number"]),
        ("runs", {"run_number": 10**40, "start_time": "24:00"}, ["run_number", "start_time"]),
        ("runs", {}, ["run_number", "start_time"]),
        ("stf-files", {"run": 7, "stf_filename": "x" * 256}, ["stf_filename", "run"]),
        ("stf-files", {"run": 7, "stf_filename": "a", "file_size_bytes": 2**63}, ["file_size_bytes", "run"]),
        ("stf-files", {"run": "x", "stf_filename": "", "workflow_id": "y"}, ["stf_filename", "workflow_id", "run"]),
        ("run-states", run_state(1, phase="x" * 21, slices_failed=None), ["phase", "slices_failed"]),
        ("system-state-events", {"event_data": None}, ["timestamp", "run_number", "event_type", "state", "event_data"]),
        ("workflow-stages", {"agent_type": "DATA", "processing_time_seconds": "NaN"}, None),
        ("tf-slices", slice_of(1, 1, assigned_worker="w" * 256, status="s" * 21), ["status", "assigned_worker"]),
    ],
)
def test_what_the_tables_do_not_allow_is_400_and_named(
    agent: TestClient, path: str, body: dict[str, Any], errors: list[str] | None
) -> None:
    reply = agent.post(f"/api/{path}/", json=body)
    assert reply.status_code == 400
    assert list(reply.json()) == (errors or ["agent_name", "agent_type", "processing_time_seconds", "workflow"])
    assert agent.get(f"/api/{path}/").json() == []


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda each: each.name)
def test_writes_need_runs_write(client: TestClient, tokens: Tokens, resource: Any) -> None:
    refused = client.post(resource.path, json={}, headers=tokens.header("stream:write"))
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "You do not have permission to perform this action."},
    )
    assert client.post(resource.path, json={}, headers=tokens.header("runs:write")).status_code in (201, 400)


def test_a_change_of_another_state_is_refused(agent: TestClient) -> None:
    row = create(agent, "run-states", run_state(101))
    url = "/api/run-states/101/"
    read = agent.get(url)
    etag = read.headers["etag"]
    changed = agent.patch(url, json={"slices_created": 1}, headers={"If-Match": etag})
    assert changed.status_code == 200
    late = agent.patch(url, json={"slices_created": 2}, headers={"If-Match": etag})
    assert (late.status_code, late.json()) == (412, {"detail": "The row is not what If-Match names."})
    assert agent.delete(url, headers={"If-Match": etag}).status_code == 412
    assert agent.get(url).headers["etag"] == changed.headers["etag"]
    assert agent.get(url).json() == {**row, "slices_created": 1, "updated_at": changed.json()["updated_at"]}
    both = agent.put(url, json=run_state(101), headers={"If-Match": f'"x", {changed.headers["etag"]}'})
    assert both.status_code == 200
    assert agent.delete(url, headers={"If-Match": "*"}).status_code == 204
