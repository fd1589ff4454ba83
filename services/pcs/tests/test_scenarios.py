"""Acceptance scenarios of pcs.md, section 11, by their numbers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .world import API, DIS, category, composition, dataset, lock, tag, tags_of_all_kinds

EVGEN = f"{API}evgen-tags/"
PHYSICS = f"{API}physics-tags/"
DATASETS = f"{API}datasets/"
CONFIGS = f"{API}prod-configs/"


def test_2_numbers_are_given_by_the_server_and_suffixes_are_global(ada: TestClient) -> None:
    category(ada)
    category(ada, 2, "DVCS")
    forged: dict[str, Any] = {
        "tag_number": 7,
        "tag_label": "p7",
        "status": "locked",
        "id": 1,
        "created_at": "2020-01-01T00:00:00Z",
    }
    made = tag(ada, "physics", category=2, **forged)
    assert (made["tag_number"], made["tag_label"], made["status"]) == (2001, "p2001", "draft")
    assert tag(ada, "physics", category="1")["tag_label"] == "p1002"
    assert tag(ada)["tag_label"] == "e1"
    assert tag(ada, "simu")["tag_label"] == "s1"


def test_2_a_rejected_request_burns_no_number(ada: TestClient) -> None:
    category(ada)
    for body in ({}, {"category": 1}, {"category": 1, "created_by": "ada", "parameters": {"process": "x"}}):
        assert ada.post(PHYSICS, json=body).status_code == 400
    assert ada.post(f"{EVGEN}?unique=maybe", json={}).status_code == 400
    assert tag(ada, "physics")["tag_number"] == 1001
    assert tag(ada)["tag_number"] == 1


def test_3_fifty_creations_at_once_get_consecutive_numbers(ada: TestClient) -> None:
    with ThreadPoolExecutor(16) as pool:
        numbers = [each["tag_number"] for each in pool.map(lambda _: tag(ada), range(50))]
    assert sorted(numbers) == list(range(1, 51))


def test_4_missing_required_parameters_are_named_in_their_order(ada: TestClient) -> None:
    category(ada, 2, "DVCS")
    body = {"category": 2, "created_by": "ada", "parameters": {"process": "DVCS", "beam_energy_hadron": ""}}
    reply = ada.post(PHYSICS, json=body)
    message = "Missing required parameters: beam_energy_electron, beam_energy_hadron"
    assert (reply.status_code, reply.json()) == (400, {"parameters": [message]})


def test_4_absent_parameters_are_looked_at_too(ada: TestClient) -> None:
    reply = ada.post(EVGEN, json={"created_by": "ada"})
    message = "Missing required parameters: generator, generator_version"
    assert (reply.status_code, reply.json()) == (400, {"parameters": [message]})


def test_5_a_category_that_is_missing_or_unknown(ada: TestClient) -> None:
    for given in ({}, {"category": None}, {"category": ""}, {"category": 0}):
        reply = ada.post(PHYSICS, json={**given, "created_by": "ada", "parameters": DIS})
        assert (reply.status_code, reply.json()) == (400, {"category": ["This field is required."]})
    for wrong in (9, "9", "x", [1], True, 10**30, "9" * 5000):
        reply = ada.post(PHYSICS, json={"category": wrong, "created_by": "ada", "parameters": DIS})
        assert reply.status_code == 400
        assert list(reply.json()) == ["category"]
    reply = ada.post(PHYSICS, json={"category": 9, "created_by": "ada", "parameters": DIS})
    assert reply.json() == {"category": ["Category 9 does not exist."]}


def test_6_a_draft_is_edited(ada: TestClient) -> None:
    made = tag(ada)
    path = f"{EVGEN}{made['tag_number']}/"
    changed = ada.patch(path, json={"description": "better"})
    assert changed.status_code == 200
    assert changed.json()["updated_at"] > made["updated_at"]
    hint = ada.patch(path, json={"status": "locked"})
    assert (hint.status_code, hint.json()) == (400, {"detail": "Use the /lock/ endpoint to change status."})
    new = {"generator": "EpIC", "generator_version": "1.1.6-1.0", "anything": [1, {"x": None}]}
    assert ada.patch(path, json={"parameters": new}).json()["parameters"] == new
    assert ada.get(path).json()["parameters"] == new


def test_7_a_lock_is_for_ever(ada: TestClient) -> None:
    made = tag(ada)
    path = f"{EVGEN}{made['tag_number']}/"
    locked = ada.post(f"{path}lock/", json={"status": "draft"})
    assert (locked.status_code, locked.json()["status"]) == (200, "locked")
    assert locked.json()["updated_at"] > made["updated_at"]
    again = ada.post(f"{path}lock/")
    assert (again.status_code, again.json()) == (400, {"detail": "Tag e1 is already locked."})
    change = ada.patch(path, json={"status": "draft"})
    assert (change.status_code, change.json()) == (400, {"detail": "Tag e1 is locked and cannot be modified."})
    for method in ("DELETE", "PUT"):
        refused = ada.request(method, path)
        assert (refused.status_code, refused.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
        assert refused.headers["allow"] == "GET, PATCH, HEAD, OPTIONS"
    assert ada.get(f"{path}lock/").status_code == 405
    gone = ada.post(f"{path}delete/")
    assert (gone.status_code, gone.json()) == (400, {"detail": "Tag e1 is locked and cannot be deleted."})
    assert ada.get(path).json() == locked.json()


def test_8_a_dataset_needs_locked_tags(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada, locked=False)
    for kind in ("physics", "evgen", "reco"):
        lock(ada, kind, rows[kind])
    reply = ada.post(DATASETS, json=composition(rows))
    message = "Tag s1 must be locked before use in a dataset."
    assert (reply.status_code, reply.json()) == (400, {"simu_tag": [message]})
    lock(ada, "simu", rows["simu"])
    made = ada.post(DATASETS, json=composition(rows))
    assert made.status_code == 201
    name = "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1"
    assert made.json()["dataset_name"] == made.json()["composed_name"] == name
    assert made.json()["did"] == f"group.EIC:{name}.b1"
    assert (made.json()["block_num"], made.json()["blocks"]) == (1, 1)


def test_9_blocks_are_added_whichever_block_is_addressed(ada: TestClient) -> None:
    first = dataset(ada, metadata={"a": 1}, description="d")
    second = ada.post(f"{DATASETS}{first['id']}/add-block/")
    third = ada.post(f"{DATASETS}{first['id']}/add-block/", json={})
    assert (second.status_code, third.status_code) == (201, 201)
    assert (second.json()["did"][-3:], third.json()["did"][-3:]) == (".b2", ".b3")
    assert ada.get(f"{DATASETS}{first['id']}/").json()["blocks"] == 3
    fourth = ada.post(f"{DATASETS}{second.json()['id']}/add-block/", json={"created_by": "ada"}).json()
    assert fourth["did"].endswith(".b4")
    own = ("id", "did", "block_num", "blocks", "created_at")
    assert {key: value for key, value in fourth.items() if key not in own} == {
        key: value for key, value in first.items() if key not in own
    }
    assert [each["block_num"] for each in ada.get(DATASETS).json()] == [4, 3, 2, 1]
    assert ada.get(f"{DATASETS}{first['id']}/add-block/").status_code == 405
    assert ada.post(f"{DATASETS}99999/add-block/").json() == {"detail": "No Dataset matches the given query."}


def test_10_the_same_composition_again_is_a_conflict(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    assert ada.post(DATASETS, json=composition(rows)).status_code == 201
    again = ada.post(DATASETS, json=composition(rows, description="other"))
    assert again.status_code == 409
    assert "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1" in again.json()["detail"]
    assert len(ada.get(DATASETS).json()) == 1


def test_11_configurations_are_created_changed_and_deleted(ada: TestClient) -> None:
    made = ada.post(CONFIGS, json={"name": "std", "created_by": "ada"})
    assert made.status_code == 201
    row = made.json()
    defaults = {
        "description": "",
        "bg_mixing": False,
        "copy_reco": True,
        "copy_full": False,
        "copy_log": True,
        "use_rucio": True,
        "target_hours_per_job": None,
        "events_per_task": None,
        "condor_template": "",
        "rucio_replication_rules": None,
        "jug_xl_tag": "",
    }
    assert {key: row[key] for key in defaults} == defaults
    assert next(iter(row)) == "id"
    assert list(row)[-3:] == ["created_by", "created_at", "updated_at"]
    taken = ada.post(CONFIGS, json={"name": "std", "created_by": "ada"})
    assert (taken.status_code, taken.json()) == (400, {"name": ["prod config with this name already exists."]})
    path = f"{CONFIGS}{row['id']}/"
    assert ada.patch(path, json={"target_hours_per_job": 2}).json()["target_hours_per_job"] == "2.00"
    wrong = ada.patch(path, json={"target_hours_per_job": 2.555})
    message = "Ensure that there are no more than 2 decimal places."
    assert (wrong.status_code, wrong.json()) == (400, {"target_hours_per_job": [message]})
    kept = ada.put(path, json={"name": "std2", "created_by": "ada"}).json()
    assert (kept["name"], kept["target_hours_per_job"]) == ("std2", "2.00")
    assert ada.delete(path).status_code == 204
    gone = ada.get(path)
    assert (gone.status_code, gone.json()) == (404, {"detail": "No ProdConfig matches the given query."})


def test_11_a_form_without_a_boolean_says_false(ada: TestClient) -> None:
    made = ada.post(CONFIGS, data={"name": "std", "created_by": "ada"}).json()
    assert (made["copy_reco"], made["copy_log"], made["use_rucio"]) == (False, False, False)


def test_12_definitions_are_replaced_and_hold_for_new_tags(ada: TestClient) -> None:
    path = "/pcs/tags/s/param-defs/"
    two = ada.get(path).json()["defs"][:2]
    reply = ada.post(path, json={"defs": [*two, {"name": " gpu ", "sort_order": 77, "unit": "cores"}]})
    assert reply.status_code == 200
    gpu = {
        "type": "string",
        "required": False,
        "choices": [],
        "allow_other": True,
        "name": "gpu",
        "sort_order": 2,
        "unit": "cores",
    }
    assert reply.json() == {"ok": True, "defs": [*two, gpu]}
    assert ada.get(path).json()["defs"][2] == gpu
    assert ada.post(path, json={"defs": [*two, {**gpu, "required": True}]}).status_code == 200
    parameters = {"detector_sim": "npsim", "sim_version": "26.02.0"}
    refused = ada.post(f"{API}simu-tags/", json={"created_by": "ada", "parameters": parameters})
    assert (refused.status_code, refused.json()) == (400, {"parameters": ["Missing required parameters: gpu"]})


def test_13_nobody_changes_the_draft_of_somebody_else(ada: TestClient, tokens: Tokens) -> None:
    made = tag(ada, description="mine")
    path = f"{EVGEN}{made['tag_number']}/"
    bob = tokens.header("pcs:write", "pcs:lock", subject="bob")
    for method, where, verb in (("PATCH", "", "edit"), ("POST", "lock/", "lock"), ("POST", "delete/", "delete")):
        reply = ada.request(method, f"{path}{where}", json={"description": "his"}, headers=bob)
        assert (reply.status_code, reply.json()) == (403, {"detail": f"Only the creator (ada) can {verb} this tag."})
    assert ada.get(path).json() == made
    copy = ada.post(f"{path}copy/", headers=bob)
    assert copy.status_code == 201
    assert (copy.json()["tag_label"], copy.json()["created_by"]) == ("e2", "bob")
    assert copy.json()["parameters"] == made["parameters"]
    admin = tokens.header("pcs:write", "pcs:admin", "pcs:lock", subject="root")
    assert ada.patch(path, json={"description": "his"}, headers=admin).status_code == 200
    assert ada.post(f"{path}delete/", headers=admin).json() == {"detail": "Tag e1 deleted."}


def test_17_files_are_split_at_100000(ada: TestClient) -> None:
    made = dataset(ada)
    path = f"{DATASETS}{made['id']}/"
    name = made["dataset_name"]
    reply = ada.post(f"{path}files/", json={"count": 250_000, "bytes": 2_500_000_000, "key": "r1"})
    split = [
        {"did": f"group.EIC:{name}.b{block}", "file_count": count}
        for block, count in ((1, 100_000), (2, 100_000), (3, 50_000))
    ]
    assert (reply.status_code, reply.json()) == (200, split)
    again = ada.post(f"{path}files/", json={"count": 250_000, "bytes": 2_500_000_000, "key": "r1"})
    assert (again.status_code, again.json()) == (200, split)
    other = ada.post(f"{path}files/", json={"count": 1, "key": "r1"})
    assert other.status_code == 409
    manifest = ada.get(f"{path}manifest/").json()
    assert (manifest["blocks"], manifest["file_count"], manifest["data_size"]) == (3, 250_000, 2_500_000_000)
    assert [each["data_size"] for each in manifest["files"]] == [10**9, 10**9, 5 * 10**8]
    assert ada.get(path).json()["blocks"] == 3
    more = ada.post(f"{path}files/", json={"count": 50_001}, headers={"Idempotency-Key": "r2"}).json()
    assert [each["file_count"] for each in more] == [100_000, 1]
    lines = ada.get(f"{path}manifest/?fmt=csv").text.splitlines()
    assert lines[0] == "block_num,did,file_count,data_size"
    assert lines[4].startswith(f"4,group.EIC:{name}.b4,1,")
