"""Counters without a race, histories, timelines and reports."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.runs.tests.bodies import AT, create, run_state, slice_of
from services.runs.tests.test_life import follow, said
from sluice_core.testing.tokens import Tokens

URL = "/api/run-states/101/increment/"


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("runs:write"))
    return client


def test_increments_at_the_same_time_lose_nothing(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101, slices_created=1))
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(lambda n: agent.post(URL, json={"slices_created": 3, "slices_queued": n}), range(40))
        )
    assert {reply.status_code for reply in replies} == {200}
    row = agent.get("/api/run-states/101/").json()
    assert (row["slices_created"], row["slices_queued"], row["slices_failed"]) == (121, 780, 0)
    assert row["state_changed_at"] == "2026-05-05T10:00:00Z"
    assert agent.post(URL, json={"slices_queued": -780}).json()["slices_queued"] == 0


def test_a_named_increment_is_done_once(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101))
    with ThreadPoolExecutor(4) as threads:
        send = lambda _: agent.post(URL, json={"slices_created": 3}, headers={"Idempotency-Key": "k"})  # noqa: E731
        assert {reply.json()["slices_created"] for reply in threads.map(send, range(8))} == {3}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (URL, {}, 400),
        (URL, {"slices_lost": 1}, 400),
        (URL, {"slices_created": "1"}, 400),
        (URL, {"slices_created": True}, 400),
        (URL, {"slices_created": 2**31}, 400),
        (URL, {"slices_created": 2**31 - 1}, 400),
        (URL, [1], 400),
        ("/api/run-states/7/increment/", {"slices_created": 1}, 404),
        ("/api/run-states/99999999999/increment/", {"slices_created": 1}, 400),
    ],
)
def test_an_increment_that_cannot_be_is_refused_and_changes_nothing(
    agent: TestClient, path: str, body: Any, status: int
) -> None:
    row = create(agent, "run-states", run_state(101, slices_created=1))
    refused = agent.post(path, json=body)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert agent.get("/api/run-states/101/").json() == row


def test_a_history_tells_where_a_run_stood_at_any_time(agent: TestClient) -> None:
    create(agent, "run-states", run_state(101))
    follow(agent, said("run_imminent", 5), said("end_run", 40), said("start_run", 13))
    found = agent.get("/api/run-states/101/history/").json()
    assert [(line["source"], line["message_type"], line["state"]) for line in found] == [
        ("client", None, "imminent"),
        ("message", "run_imminent", "beam"),
        ("message", "start_run", "run"),
        ("message", "end_run", "ended"),
    ]
    for second, state in (("01", "imminent"), ("05", "beam"), ("39", "run"), ("59", "ended")):
        (line,) = agent.get(f"/api/run-states/101/history/?as_of=2026-05-05T10:00:{second}Z").json()
        assert line["state"] == state
    assert agent.get("/api/run-states/101/history/?as_of=2020-01-01").json() == []
    assert agent.get("/api/run-states/101/history/?as_of=then").status_code == 400
    assert agent.get("/api/run-states/7/history/").status_code == 404


def test_a_timeline_tells_everything_in_order_page_by_page(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    create(agent, "run-states", run_state(101))
    for n in (1, 2):
        row = create(agent, "stf-files", {"run": run, "stf_filename": f"{n}.stf", "file_size_bytes": 10})
        create(agent, "fastmon-files", {"stf_file": f"{n}.stf", "tf_filename": f"{n}.tf", "file_size_bytes": 2})
    agent.patch(f"/api/stf-files/{row['file_id']}/", json={"status": "failed"})
    create(agent, "tf-slices", slice_of(101, 0, status="failed"))
    event = {"timestamp": "2026-05-05T10:00:02", "run_number": 101, "event_type": "start_run", "state": "unknown"}
    create(agent, "system-state-events", {**event, "event_data": {}})
    follow(agent, said("start_run", 1), said("stf_gen", 3))
    agent.patch(f"/api/runs/{run}/", json={"end_time": "2026-05-05T10:01:00"})
    url, found = f"/api/runs/{run}/timeline/?limit=3", []
    while url:
        reply = agent.get(url)
        assert reply.status_code == 200, reply.text
        found += reply.json()
        url = reply.links.get("next", {}).get("url", "")
    assert [(line["kind"], line["what"], line["name"]) for line in found] == [
        ("run", "started", None),
        ("state", "initializing/imminent", None),
        ("message", "start_run", None),
        ("state", "physics/run", "start_run"),
        ("event", "start_run", "unknown"),
        ("message", "stf_gen", None),
        ("run", "ended", None),
        ("stf", "registered", "1.stf"),
        ("tf", "registered", "1.tf"),
        ("stf", "registered", "2.stf"),
        ("tf", "registered", "2.tf"),
        ("stf", "failed", "2.stf"),
    ]
    assert agent.get(f"/api/runs/{run}/timeline/?after=x").status_code == 400
    assert agent.get("/api/runs/1000000/timeline/").status_code == 404
    report = agent.get(f"/api/runs/{run}/report/").json()
    latency = report["stf_files"].pop("seconds_to_processed")
    assert 0 < latency["p50"] == latency["max"] < 60
    assert report["stf_files"].pop("files_per_second") > 0
    assert report["stf_files"].pop("bytes_per_second") > 0
    assert report == {
        "run_id": run,
        "run_number": 101,
        "start_time": "2026-05-05T10:00:00Z",
        "end_time": "2026-05-05T10:01:00Z",
        "seconds": 60.0,
        "stf_files": {"count": 2, "bytes": 20, "by_status": {"registered": 1, "failed": 1}},
        "tf_files": {"count": 2, "bytes": 4, "by_status": {"registered": 2}},
        "slices": {"count": 1, "by_status": {"failed": 1}},
        "messages": {"count": 2, "by_type": {"start_run": 1, "stf_gen": 1}},
        "failures": 2,
    }
    assert agent.get("/api/runs/1000000/report/").status_code == 404


def test_a_run_without_files_has_a_report(agent: TestClient) -> None:
    run = create(agent, "runs", {"run_number": 101, "start_time": AT})["run_id"]
    report = agent.get(f"/api/runs/{run}/report/").json()
    assert (report["seconds"], report["failures"]) == (None, 0)
    assert report["stf_files"]["files_per_second"] is None
    assert report["stf_files"]["seconds_to_processed"] == dict.fromkeys(("mean", "p50", "p95", "max"))
