"""Creation that may be repeated (decision 16), and many rows at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.runs.tests.bodies import AT, create, slice_of
from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens

RUN = {"run_number": 101, "start_time": AT, "run_conditions": {"a": 1}}


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


@pytest.fixture
def run(agent: TestClient) -> int:
    run: int = create(agent, "runs", RUN)["run_id"]
    return run


def test_a_retry_after_a_lost_answer_gets_the_row_and_a_difference_is_refused(agent: TestClient, run: int) -> None:
    again = agent.post("/api/runs/", json=RUN)
    assert (again.status_code, again.json()) == (200, agent.get(f"/api/runs/{run}/").json())
    for other in ({"start_time": "2026-05-05T10:00:01"}, {"run_conditions": {"a": True}}, {"run_conditions": None}):
        refused = agent.post("/api/runs/", json={**RUN, **other})
        assert (refused.status_code, refused.json()) == (
            400,
            {"run_number": ["run with this run number already exists."]},
        )
    stf = {"run": run, "stf_filename": "swf.101.000001.stf", "metadata": {"created_by": "ada"}}
    first = create(agent, "stf-files", stf)
    tf = {"stf_file": "swf.101.000001.stf", "tf_filename": "swf.101.000001_tf_001.tf"}
    related = {**slice_of(101, 0), "fastmon_file": tf["tf_filename"]}
    del related["tf_filename"], related["stf_filename"]
    for name, body in (("fastmon-files", tf), ("tf-slices", slice_of(101, 0))):
        row = create(agent, name, body)
        again = agent.post(f"/api/{name}/", json=body)
        assert (again.status_code, again.json()) == (200, row)
    # The same slice, said in the other way.
    assert agent.post("/api/tf-slices/", json=related).status_code == 200
    agent.patch(f"/api/stf-files/{first['file_id']}/", json={"status": "processed"})
    assert agent.post("/api/stf-files/", json=stf).json()["file_id"] == first["file_id"]
    assert agent.post("/api/stf-files/", json={**stf, "status": "registered"}).status_code == 400


def test_repeats_can_be_turned_off(start: Start, tokens: Tokens) -> None:
    client = start(accept_repeat=False)
    client.headers.update(tokens.header("runs:write"))
    create(client, "runs", RUN)
    assert client.post("/api/runs/", json=RUN).status_code == 400
    named = {"Idempotency-Key": "k1"}
    made = client.post("/api/runs/", json={**RUN, "run_number": 102}, headers=named)
    again = client.post("/api/runs/", json={**RUN, "run_number": 102}, headers=named)
    assert (made.status_code, again.status_code, made.json()) == (201, 200, again.json())


def test_a_named_request_is_done_once_whatever_it_says(agent: TestClient, tokens: Tokens, run: int) -> None:
    body = {"run": run, "stf_filename": "a.stf"}
    named = {"Idempotency-Key": "k1"}
    made = agent.post("/api/stf-files/", json=body, headers=named)
    agent.patch(f"/api/stf-files/{made.json()['file_id']}/", json={"status": "processed"})
    again = agent.post("/api/stf-files/", json={**body, "stf_filename": "b.stf"}, headers=named)
    assert (again.status_code, again.json()) == (200, {**made.json(), "status": "processed"})
    assert len(agent.get("/api/stf-files/").json()) == 1
    assert agent.post("/api/stf-files/", json=body, headers={"Idempotency-Key": "x" * 256}).status_code == 400


def test_of_the_same_name_at_the_same_time_one_is_made(agent: TestClient, run: int) -> None:
    bodies = [{"run": run, "stf_filename": "a.stf", "file_size_bytes": n % 2} for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda body: agent.post("/api/stf-files/", json=body), bodies))
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 201, 400, 400, 400, 400]
    assert len(agent.get("/api/stf-files/").json()) == 1


def batch(agent: TestClient, name: str, items: list[Any], query: str = "") -> tuple[int, Any, list[int]]:
    reply = agent.post(f"/api/{name}/{query}", json=items)
    said = reply.json()
    assert set(said) == {"accepted", "rejected"}, said
    return reply.status_code, said["accepted"], [each["index"] for each in said["rejected"]]


def test_many_files_and_slices_are_stored_at_once(agent: TestClient, run: int) -> None:
    stfs = [{"run": run, "stf_filename": f"{n}.stf", "metadata": {"sequence": n, "é": "\\\n\t"}} for n in range(300)]
    assert batch(agent, "stf-files", stfs) == (201, 300, [])
    tfs = [{"stf_file": f"{n}.stf", "tf_filename": f"{n}_tf_001.tf", "tf_first": 1, "tf_count": 7} for n in range(300)]
    assert batch(agent, "fastmon-files", tfs) == (201, 300, [])
    slices = [slice_of(101, n, f"{n}_tf_001") for n in range(300)]
    assert batch(agent, "tf-slices", slices) == (201, 300, [])
    row = agent.get("/api/stf-files/?stf_filename=7.stf").json()[0]
    single = create(agent, "stf-files", {"run": run, "stf_filename": "x.stf"})
    assert {**single, **row} == {**row, **dict.fromkeys(single.keys() - row.keys())}
    assert (row["metadata"], row["status"], row["run"]) == (stfs[7]["metadata"], "registered", run)
    assert agent.get("/api/fastmon-files/?stf_filename=7.stf").json()[0]["tf_count"] == 7
    found = agent.get("/api/tf-slices/?run_number=101&slice_id=7").json()
    assert [(each["fastmon_file"], each["metadata"]) for each in found] == [("7_tf_001.tf", slices[7]["metadata"])]
    # All of it once more: an agent whose answer was lost.
    assert [batch(agent, *each) for each in (("stf-files", stfs), ("fastmon-files", tfs), ("tf-slices", slices))] == [
        (201, 300, [])
    ] * 3
    assert [len(agent.get(f"/api/{name}/").json()) for name in ("stf-files", "fastmon-files", "tf-slices")] == [
        301,
        300,
        300,
    ]


def test_a_bad_item_is_named_and_the_others_are_stored_unless_all_or_none_is_asked(agent: TestClient, run: int) -> None:
    create(agent, "stf-files", {"run": run, "stf_filename": "a.stf"})
    items = [
        {"run": run, "stf_filename": "b.stf"},
        {"run": run, "stf_filename": "a.stf", "status": "done"},
        {"run": 10**6, "stf_filename": "c.stf"},
        {"run": run},
        [],
        {"run": run, "stf_filename": "d.stf", "file_size_bytes": 10**40},
        {"run": run, "stf_filename": "b.stf"},
        {"run": run, "stf_filename": "b.stf", "status": "failed"},
    ]
    assert batch(agent, "stf-files", items, "?atomic=true") == (400, 0, [3, 4, 5])
    assert batch(agent, "stf-files", items[:3], "?atomic=true") == (400, 0, [1, 2])
    assert len(agent.get("/api/stf-files/").json()) == 1
    reply = agent.post("/api/stf-files/", json=items)
    assert (reply.status_code, reply.json()) == (
        201,
        {
            "accepted": 2,
            "rejected": [
                {"index": 1, "errors": {"stf_filename": ["stf file with this stf filename already exists."]}},
                {"index": 2, "errors": {"run": ['Invalid pk "1000000" - object does not exist.']}},
                {"index": 3, "errors": {"stf_filename": ["This field is required."]}},
                {
                    "index": 4,
                    "errors": {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]},
                },
                {
                    "index": 5,
                    "errors": {"file_size_bytes": [f"Ensure this value is less than or equal to {2**63 - 1}."]},
                },
                {"index": 7, "errors": {"stf_filename": ["stf file with this stf filename already exists."]}},
            ],
        },
    )
    tfs = [{"stf_file": name, "tf_filename": f"{name}.tf"} for name in ("a.stf", "none.stf")]
    assert batch(agent, "fastmon-files", tfs) == (201, 1, [1])
    assert batch(agent, "tf-slices", [{**slice_of(1, 1), "fastmon_file": "none.tf"}]) == (400, 0, [0])


def test_an_array_has_bounds_and_runs_take_none(agent: TestClient, run: int) -> None:
    assert agent.post("/api/stf-files/", json=[{}] * 10_001).status_code == 413
    assert agent.post("/api/stf-files/", json=[]).json() == {"accepted": 0, "rejected": []}
    refused = agent.post("/api/runs/", json=[RUN])
    assert refused.json() == {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}
    assert agent.post("/api/stf-files/", content=b" [", headers={"Content-Type": "application/json"}).status_code == 400
