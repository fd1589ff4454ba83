"""Production tasks: life cycle, names, attempts (contract 10.4; scenarios 19 and 20 of section 11)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .world import API, composition, dataset, made, tags_of_all_kinds

TASKS = f"{API}prod-tasks/"
COMMAND = f"{TASKS}command/"
# The example of 10.5, letter by letter.
EXAMPLE = r"""EBEAM=18 \
  PBEAM=275 \
  DETECTOR_VERSION=26.02.0 \
  DETECTOR_CONFIG=epic_craterlake \
  JUG_XL_TAG=26.02.0-stable \
  COPYRECO=true \
  COPYFULL=false \
  COPYLOG=true \
  scripts/submit_csv.sh osg_csv hepmc3 EXCLUSIVE/x.csv 2"""


def config(client: TestClient, name: str = "std", **given: Any) -> dict[str, Any]:
    body = {"name": name, "created_by": "ada", "jug_xl_tag": "26.02.0-stable", "use_rucio": False}
    return made(client.post(f"{API}prod-configs/", json={**body, **given}))


def task(client: TestClient, data: dict[str, Any], configured: dict[str, Any], **given: Any) -> dict[str, Any]:
    body = {
        "name": "t1",
        "created_by": "ada",
        "dataset": data["id"],
        "prod_config": configured["id"],
        "csv_file": "EXCLUSIVE/x.csv",
    }
    return made(client.post(TASKS, json={**body, **given}))


def test_19_a_task_goes_through_its_life(ada: TestClient) -> None:
    row = task(ada, dataset(ada), config(ada))
    name = row["composed_name"]
    assert row["status"] == "draft"
    command = ada.get(COMMAND, params={"name": name, "fmt": "condor"})
    assert (command.status_code, command.text) == (200, EXAMPLE)
    assert command.headers["content-type"] == "text/plain; charset=utf-8"

    def move(status: str) -> tuple[int, Any]:
        reply = ada.post(f"{TASKS}{name}/set-status/", json={"status": status})
        return reply.status_code, reply.json().get("detail", reply.json().get("status"))

    wrong = "Cannot transition from 'draft' to 'submitted'. Allowed from 'draft': ['ready']"
    assert move("submitted") == (400, wrong)
    assert move("x") == (400, "Invalid status. Choose from: completed, draft, failed, ready, submitted")
    for status in ("ready", "submitted", "completed"):
        assert move(status) == (200, status)
    ended = "Cannot transition from 'completed' to 'draft'. Allowed from 'completed': (terminal)"
    assert move("draft") == (400, ended)
    changed = ada.patch(f"{TASKS}{name}/", json={"description": "x"})
    assert changed.status_code == 400
    assert "(terminal)" in changed.json()["detail"]


def test_19_a_task_without_output_or_input_is_not_ready(ada: TestClient) -> None:
    configured = config(ada, copy_reco=False, copy_full=False, bg_mixing=True)
    row = task(ada, dataset(ada), configured, csv_file="")
    reply = ada.post(f"{TASKS}{row['name']}/lock/")
    problems = (
        "no output: copy_reco and copy_full are both off; no matched input; "
        "background mixing is on, and no tag has background parameters"
    )
    assert (reply.status_code, reply.json()) == (400, {"detail": f"Cannot lock — task is not ready: {problems}"})
    assert ada.get(f"{TASKS}t1/").json()["status"] == "draft"


def test_20_each_number_of_jedi_is_an_attempt(ada: TestClient) -> None:
    data, configured = dataset(ada), config(ada)
    task(ada, data, configured)
    task(ada, data, configured, name="t2")
    record = f"{TASKS}record-submission/?name="
    first = ada.post(f"{record}t1", json={"jedi_task_id": 4242, "status": "submitted", "residual": {"rows": 2}})
    assert first.status_code == 200
    row = first.json()
    assert (row["panda_task_id"], row["status"]) == (4242, "submitted")
    (attempt,) = row["panda_tasks"]
    assert (attempt["task_name"], attempt["try_number"], attempt["current"]) == (row["composed_name"], 1, True)
    assert attempt["metadata"] == {"residual": {"rows": 2}}
    again = ada.post(f"{record}t1", json={"jedi_task_id": "4242"})
    assert (again.status_code, len(again.json()["panda_tasks"])) == (200, 1)
    second = ada.post(f"{record}t1", json={"jedi_task_id": 4300}).json()
    assert [each["task_name"] for each in second["panda_tasks"]] == [
        row["composed_name"],
        f"{row['composed_name']}.try2",
    ]
    assert [each["current"] for each in second["panda_tasks"]] == [False, True]
    other = ada.post(f"{record}t2", json={"jedi_task_id": 4242})
    assert (other.status_code, other.json()) == (409, {"detail": "jediTaskID 4242 belongs to another task."})
    taken = ada.post(f"{record}t1", json={"jedi_task_id": 9, "panda_tasks_id": attempt["id"]})
    assert taken.status_code == 409
    for bad in ("x", None, True, 1.5, -1, 10**30):
        reply = ada.post(f"{record}t1", json={"jedi_task_id": bad})
        assert (reply.status_code, reply.json()) == (400, {"detail": "jedi_task_id must be an integer"})
    for more in ({"status": "draft"}, {"status": ["submitted"]}, {"panda_task_name": ["x"]}, {"panda_tasks_id": "x"}):
        assert ada.post(f"{record}t1", json={"jedi_task_id": 12, **more}).status_code == 400, more
    assert ada.post(f"{record}nobody", json={"jedi_task_id": 1}).status_code == 404
    assert ada.post(f"{record}t1", json={"jedi_task_id": 1, "residual": "\0"}).status_code == 400
    assert ada.delete(f"{TASKS}t1/").status_code == 400


def test_20_the_same_number_at_once_is_one_attempt(ada: TestClient) -> None:
    task(ada, dataset(ada), config(ada))
    path = f"{TASKS}record-submission/?name=t1"
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ada.post(path, json={"jedi_task_id": 7}), range(8)))
    assert {reply.status_code for reply in replies} == {200}
    assert len(ada.get(f"{TASKS}t1/").json()["panda_tasks"]) == 1


def test_20_a_number_for_two_tasks_at_once_is_for_one_of_them(ada: TestClient) -> None:
    data, configured = dataset(ada), config(ada)
    for name in ("t0", "t1"):
        task(ada, data, configured, name=name)

    def record(number: int) -> tuple[int, int]:
        jedi = number // 2
        reply = ada.post(f"{TASKS}record-submission/?name=t{number % 2}", json={"jedi_task_id": jedi + 1})
        return jedi, reply.status_code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(record, range(20)))
    for jedi in range(10):
        assert sorted(status for number, status in found if number == jedi) == [200, 409]


def test_a_task_is_called_by_composed_name_name_beginning_or_id_and_never_guessed(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    plain = made(ada.post(f"{API}datasets/", json=composition(rows)))
    sample = made(ada.post(f"{API}datasets/", json=composition(rows, sample_name="v1")))
    configured = config(ada)
    first = task(ada, plain, configured, name="one.x")
    second = task(ada, sample, configured, name="two.x")
    for called, wanted in (
        (plain["dataset_name"], first),
        (sample["dataset_name"], second),
        ("two.x", second),
        ("two", second),
        (str(first["id"]), first),
    ):
        assert ada.get(f"{TASKS}{called}/").json()["id"] == wanted["id"], called
    refused = ada.get(f"{TASKS}group.EIC/")
    assert refused.status_code == 409
    assert refused.json()["candidates"] == ["one.x", "two.x"]
    third = task(ada, plain, configured, name="three")
    twice = ada.get(f"{TASKS}{plain['dataset_name']}/")
    assert (twice.status_code, twice.json()["candidates"]) == (409, ["one.x", "three"])
    assert ada.get(f"{TASKS}three/").json() == third
    absent = ada.get(f"{TASKS}nobody/")
    assert (absent.status_code, absent.json()) == (404, {"detail": "No ProdTask matches the given query."})
    assert ada.get(f"{TASKS}a%00b/").status_code == 404


def test_a_task_is_not_called_like_a_verb_or_a_step_in_a_path(ada: TestClient) -> None:
    data, configured = dataset(ada), config(ada)
    for name in ("command", "record-submission", "intake", "..", "x" * 256):
        body = {"name": name, "created_by": "ada", "dataset": data["id"], "prod_config": configured["id"]}
        reply = ada.post(TASKS, json=body)
        assert (reply.status_code, list(reply.json())) == (400, ["name"]), name


def test_what_a_task_is_for_is_kept(ada: TestClient) -> None:
    use = {"pre_tdr_use": True, "early_science_use": False, "other_use": True, "new_request": False}
    row = task(ada, dataset(ada), config(ada), **use)
    assert {name: row[name] for name in use} == use


def test_commands_name_what_is_wrong_with_the_question(ada: TestClient) -> None:
    assert ada.get(COMMAND).json() == {"detail": "Missing ?name="}
    wrong = ada.get(f"{COMMAND}?name=x&fmt=xml")
    assert (wrong.status_code, wrong.json()) == (
        400,
        {"detail": "fmt must be one of: condor, panda, jedi, evgen, dump"},
    )
    absent = ada.get(f"{COMMAND}?name=x&fmt=jedi")
    assert (absent.status_code, absent.json()) == (404, {"detail": "No task named 'x'"})


def test_a_dry_run_shows_what_a_submission_hands_over_and_a_submission_happens_once(ada: TestClient) -> None:
    files = {"source": {"kind": "file_list", "location": "l", "files": ["a/x.hepmc3.tree.root", "a/y.hepmc"]}}
    row = task(ada, dataset(ada, metadata=files), config(ada, data={"events_per_job": 100}))
    submit = f"{TASKS}t1/submit/"
    assert ada.post(submit).status_code == 400
    assert ada.post(f"{TASKS}t1/lock/").json()["status"] == "ready"
    shown = ada.post(f"{submit}?dry_run=true").json()
    assert shown["spec"]["csvRows"] == ["a/x,hepmc3.tree.root,100,0000", "a/y,hepmc,100,0000"]
    assert ada.get(f"{TASKS}t1/").json()["panda_tasks"] == []
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(reply.status_code for reply in pool.map(lambda _: ada.post(submit), range(4)))
    assert statuses == [200, 409, 409, 409]
    (attempt,) = ada.get(f"{TASKS}t1/").json()["panda_tasks"]
    assert (attempt["task_name"], attempt["status_snapshot"]) == (row["composed_name"], "queued")
    failure = {"panda_tasks_id": attempt["id"], "reason": "no proxy"}
    failed = ada.post(f"{TASKS}record-submission-failure/", json=failure)
    assert (failed.status_code, failed.json()["status"]) == (200, "ready")
    assert ada.post(submit).status_code == 200
    tries = ada.get(f"{TASKS}t1/").json()["panda_tasks"]
    assert [each["task_name"] for each in tries] == [row["composed_name"], f"{row['composed_name']}.try2"]
    recorded = ada.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": 11}).json()
    assert [each["jedi_task_id"] for each in recorded["panda_tasks"]] == [None, 11]
    again = ada.post(submit)
    assert (again.status_code, again.json()) == (409, {"detail": "Already submitted as jediTaskID 11."})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"copy_reco": "perhaps"}, "copy_reco: Must be a valid boolean."),
        ({"target_hours_per_job": 2.555}, "target_hours_per_job: Ensure that there are no more than 2 decimal places."),
        ({"data": {"n_jobs": "many"}}, "data.n_jobs: A valid integer is required."),
        ({"data": []}, 'data: Expected a dictionary of items but got type "list".'),
        ({"panda_queue": "nowhere"}, "panda_queue: Object with name=nowhere does not exist."),
        ({"input_dids": "x"}, "input_dids: a list of DIDs is required."),
        ({"input_dids": ["x"]}, "input_dids: Unknown dataset: x"),
    ],
)
def test_overrides_are_looked_at_before_they_are_stored(
    ada: TestClient, overrides: dict[str, Any], message: str
) -> None:
    row = task(ada, dataset(ada), config(ada))
    reply = ada.patch(f"{TASKS}{row['id']}/", json={"overrides": overrides})
    assert (reply.status_code, reply.json()) == (400, {"overrides": [message]})


def test_linked_inputs_are_known_datasets(ada: TestClient) -> None:
    data = dataset(ada)
    task(ada, data, config(ada), csv_file="")
    path = f"{TASKS}t1/link-input/"
    assert ada.post(path, json={"did": data["did"]}).json()["input_dataset_dids"] == [data["did"]]
    wrong: list[dict[str, Any]] = [
        {},
        {"did": data["did"], "dids": []},
        {"did": "unknown"},
        {"dids": []},
        {"did": 7},
    ]
    for bad in wrong:
        assert ada.post(path, json=bad).status_code == 400, bad
    row = ada.get(f"{TASKS}t1/").json()
    assert row["output_dataset_dids"] == [data["did"]]
    assert row["overrides"] == {"input_dids": [data["did"]]}


def test_nobody_else_moves_or_changes_a_task(ada: TestClient, tokens: Tokens) -> None:
    task(ada, dataset(ada), config(ada))
    bob = tokens.header("pcs:write", subject="bob")
    attempts: list[tuple[str, str, Any]] = [
        ("PATCH", "t1/", {"description": "x"}),
        ("DELETE", "t1/", None),
        ("POST", "t1/lock/", None),
        ("POST", "t1/set-status/", {"status": "ready"}),
        ("POST", "t1/submit/", None),
        ("POST", "t1/generate-commands/", None),
        ("POST", "t1/link-input/", {"did": "x"}),
        ("POST", "record-submission/?name=t1", {"jedi_task_id": 1}),
    ]
    for method, path, body in attempts:
        reply = ada.request(method, f"{TASKS}{path}", json=body, headers=bob)
        assert (reply.status_code, reply.json()) == (403, {"detail": "Only the creator (ada) can change this task."})
        anonymous = ada.request(method, f"{TASKS}{path}", json=body, headers={"Authorization": ""})
        assert anonymous.status_code == 403
    forged = ada.patch(f"{TASKS}t1/", json={"status": "completed", "panda_task_id": 1, "description": "y"}).json()
    assert (forged["status"], forged["panda_task_id"], forged["description"]) == ("draft", None, "y")
    assert ada.delete(f"{TASKS}t1/").status_code == 204


def test_an_entry_of_the_catalogue_is_one_task(ada: TestClient) -> None:
    data = dataset(ada)
    config(ada)
    intake = f"{TASKS}intake/"
    assert ada.post(intake, json={"name": "x"}).status_code == 400
    missing = ada.post(intake, json={"public_catalog_issue": 17})
    said = "No existing task for this entry; creation requires: name, dataset, prod_config"
    assert (missing.status_code, missing.json()) == (400, {"detail": said})
    body = {"public_catalog_issue": 17, "name": "t1", "dataset": data["did"], "prod_config": "std"}
    for field in ("dataset", "prod_config"):
        unknown = ada.post(intake, json={**body, field: "nobody"})
        assert (unknown.status_code, unknown.json()) == (400, {"detail": f"{field} not found: nobody"})
    made = ada.post(intake, json=body)
    assert (made.status_code, made.json()["status"], made.json()["created_by"]) == (201, "draft", "ada")
    assert made.json()["overrides"] == {"public_catalog_issue": 17}
    again = ada.post(intake, json={"public_catalog_issue": 17})
    assert (again.status_code, again.json()) == (200, made.json())
    for bad in ({**body, "overrides": [1]}, {**body, "name": "\0"}, {**body, "public_catalog_repo": "\0"}):
        assert ada.post(intake, json=bad).status_code == 400


def test_operations_are_asked_for_where_jedi_has_the_task(ada: TestClient) -> None:
    task(ada, dataset(ada), config(ada))
    retry = f"{TASKS}t1/panda-add-retry/"
    assert ada.post(retry, json={}).json() == {"detail": "Task t1 has no JEDI task."}
    ada.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": 5})
    asked = ada.post(retry, json={"increase": 2})
    assert (asked.status_code, asked.json()) == (
        202,
        {"queued": True, "operation": "increase_attempts", "jedi_task_id": 5},
    )
    failures = ada.post(f"{TASKS}t1/panda-retry-failures/", json={"new_parameters": {"nEvents": 1}})
    assert (failures.status_code, failures.json()["operation"]) == (202, "retry_failures")
    assert ada.post(retry, json={"jedi_task_id": 6}).status_code == 409
    for bad in ({"increase": 0}, {"increase": "x"}, {"jedi_task_id": "x"}):
        assert ada.post(retry, json=bad).status_code == 400
