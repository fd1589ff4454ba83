"""Many data sets at once, and data sets from outside (contract 10.2)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .world import API, dataset, made, tags_of_all_kinds

DATASETS = f"{API}datasets/"


def test_data_sets_are_held_back_with_a_comment_and_a_history(ada: TestClient, tokens: Tokens) -> None:
    row = dataset(ada, metadata={"mine": 1})
    ada.post(f"{DATASETS}{row['id']}/add-block/")
    name = row["dataset_name"]
    body = {"names": [name, "nobody"], "state": "hold", "comment": "wrong geometry"}
    first = ada.post(f"{DATASETS}propagation/", json=body).json()
    assert (first["changed"], first["unchanged"], first["unknown"], first["state"]) == ([name], [], ["nobody"], "hold")
    assert ada.post(f"{DATASETS}propagation/", json=body).json()["unchanged"] == [name]
    for row in ada.get(DATASETS).json():
        assert row["propagation"] == "hold"
        assert row["metadata"]["mine"] == 1
        (entry,) = row["metadata"]["propagation"]["history"]
        assert (entry["previous"], entry["state"], entry["comment"]) == ("continue", "hold", "wrong geometry")
        assert (entry["changed_by"], entry["log_id"]) == ("ada", first["log_id"])
    bob = tokens.header("pcs:write", subject="bob")
    refused = ada.post(f"{DATASETS}propagation/", json={**body, "state": "final"}, headers=bob)
    assert (refused.status_code, refused.json()) == (403, {"detail": "Only the creator (ada) can change this dataset."})


def test_expected_events_are_said_and_taken_back(ada: TestClient) -> None:
    name = dataset(ada)["dataset_name"]
    path = f"{DATASETS}expected-events/"
    for events, source in ((10**10, "requested"), (None, "")):
        entry = {"name": name, "expected_events": events, "source": source}
        reply = ada.post(path, json={"entries": [entry], "comment": "c"})
        assert (reply.status_code, reply.json()["changed"]) == (200, [name])
        row = ada.get(DATASETS).json()[0]
        assert (row["expected_events"], row["expected_events_source"]) == (events, source)
    assert [each["previous"] for each in row["metadata"]["expected_events"]["history"]] == [None, 10**10]


def test_a_data_set_from_outside_is_known_by_where_it_is(ada: TestClient) -> None:
    path = f"{DATASETS}intake/"
    missing = ada.post(path, json={})
    assert (missing.status_code, missing.json()) == (400, {"detail": "source_location is required"})
    unknown = ada.post(path, json={"source_location": "a.csv", "evgen_tag": "e1"})
    detail = (
        "No existing Dataset for csv_manifest:a.csv; creation requires: "
        "detector_version, detector_config, physics_tag, simu_tag, reco_tag"
    )
    assert (unknown.status_code, unknown.json()) == (400, {"detail": detail})
    tags_of_all_kinds(ada)
    body = {
        "source_location": "a.csv",
        "detector_version": "26.02.0",
        "detector_config": "epic_craterlake",
        "physics_tag": "p9",
        "evgen_tag": "e1",
        "simu_tag": "s1",
        "reco_tag": "r1",
    }
    assert ada.post(path, json=body).json() == {"detail": "physics_tag not found: p9"}
    body["physics_tag"] = "p1001"
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(reply.status_code for reply in pool.map(lambda _: ada.post(path, json=body), range(4)))
    assert statuses == [200, 200, 200, 201]
    again = ada.post(path, json={"source_location": "a.csv"})
    assert again.status_code == 200
    row = again.json()
    assert (row["source_kind"], row["source_location"], row["stage"]) == ("csv_manifest", "a.csv", "evgen")
    assert row["scope"] == "group.EIC.evgen"


def test_a_task_of_the_catalogue_is_made_once(ada: TestClient) -> None:
    data = dataset(ada)
    made(ada.post(f"{API}prod-configs/", json={"name": "std", "created_by": "ada"}))
    path = f"{API}prod-tasks/intake/"
    new = {"name": "t1", "dataset": data["dataset_name"], "prod_config": "std", "csv_file": "x.csv"}
    issue = {"public_catalog_issue": 7, "public_catalog_repo": "catalogue"}
    missing = ada.post(path, json=issue)
    detail = "No existing task for this entry; creation requires: name, dataset, prod_config"
    assert (missing.status_code, missing.json()) == (400, {"detail": detail})

    def take(number: int) -> int:
        return ada.post(path, json={**new, **issue, "name": f"t{number}"}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, range(4))) == [200, 200, 200, 201]
    (row,) = ada.get(f"{API}prod-tasks/").json()
    assert (row["overrides"], row["status"], row["dataset"]) == (issue, "draft", data["id"])
    again = ada.post(path, json=issue)
    assert (again.status_code, again.json()) == (200, row)
    line = {"public_catalog_csv_path": "a.csv", "public_catalog_row_key": "18x275"}
    assert ada.post(path, json={**new, **line, "name": "line", "dataset": data["did"]}).status_code == 201
    assert ada.post(path, json=line).json()["name"] == "line"
    wrong: list[dict[str, Any]] = [
        {},
        {"public_catalog_issue": True},
        {"public_catalog_issue": {}},
        {"public_catalog_csv_path": "a.csv"},
        {**issue, "overrides": [1]},
        {"public_catalog_issue": 8, **new, "dataset": "x"},
        {"public_catalog_issue": 8, **new, "prod_config": "x"},
        {"public_catalog_issue": 8, **new, "name": "x" * 256},
        {"public_catalog_issue": 8, **new, "name": "line"},
    ]
    for bad in wrong:
        assert ada.post(path, json=bad).status_code == 400, bad


BAD_CHANGES: list[tuple[str, Any]] = [
    ("propagation/", {"names": [], "state": "hold", "comment": "c"}),
    ("propagation/", {"names": ["x"], "state": "stop", "comment": "c"}),
    ("propagation/", {"names": ["x"], "state": "hold"}),
    ("propagation/", {"names": [7, None], "state": "hold", "comment": "c"}),
    ("propagation/", []),
    ("expected-events/", {"entries": ["x"], "comment": "c"}),
    ("expected-events/", {"entries": [{"name": "x", "expected_events": -1}], "comment": "c"}),
    ("intake/", {"source_location": "a\0"}),
    ("intake/", {"source_location": "a", "source_kind": "tape"}),
]


def test_bad_bulk_changes_are_400(ada: TestClient) -> None:
    for path, body in BAD_CHANGES:
        assert ada.post(f"{DATASETS}{path}", json=body).status_code == 400
