"""Tasks that are handed over once more, whole or what is missing of them (contract 10.4, 10.7)."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from starlette.testclient import TestClient

from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens

from .test_tasks import COMMAND, TASKS, config, task
from .world import API, DIS, composition, dataset, lock, made, tag, tags_of_all_kinds

FILES = ["/EVGEN/a/x.hepmc3.tree.root", "/EVGEN/a/y.v1.hepmc.gz", "/EVGEN/b/z.hepmc"]


def submitted(client: TestClient, number: int = 7, files: list[str] = FILES, **given: Any) -> dict[str, Any]:
    """Make a task that JEDI has by a number; return its data set."""
    source = {"source": {"kind": "file_list", "location": "l.csv", "files": files}}
    data = dataset(client, metadata=source)
    task(client, data, config(client, panda_site="BNL_OSG_1", data={"events_per_job": 10}, **given))
    for verb in ("lock", "submit"):
        reply = client.post(f"{TASKS}t1/{verb}/")
        assert reply.status_code == 200, reply.text
    assert client.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": number}).status_code == 200
    return data


def record(client: TestClient, did: str, *files: str) -> dict[str, Any]:
    reply = client.post(f"{TASKS}t1/outputs/", json={"did": did, "files": files})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def preview(client: TestClient) -> Any:
    return client.get(f"{TASKS}t1/residual-preview/").json()


def test_only_what_is_missing_is_run_again(ada: TestClient) -> None:
    data = submitted(ada)
    assert preview(ada) == {"refusal": "No outputs are recorded."}
    refused = ada.post(f"{TASKS}t1/rerun-residual/")
    assert (refused.status_code, refused.json()) == (409, {"detail": "No outputs are recorded."})
    outputs = ("RECO/a/x.0000.eicrecon.edm4eic.root", "RECO/a/x.0001.eicrecon.edm4eic.root", "RECO/a/y.v10.0000.root")
    assert record(ada, data["did"], *outputs) == {"did": data["did"], "added": 3}
    assert record(ada, data["did"], *outputs)["added"] == 0
    assert preview(ada) == {"rows_total": 3, "rows_residual": 2, "checked_dids": [data["did"]]}
    shown = ada.get(COMMAND, params={"name": "t1", "fmt": "evgen", "residual": "1"}).json()
    assert shown["csvRows"] == ["/EVGEN/a/y.v1,hepmc.gz,10,0000", "/EVGEN/b/z,hepmc,10,0000"]
    assert (shown["residual"], shown["nJobs"]) == (True, 2)
    asked = ada.post(f"{TASKS}t1/rerun-residual/")
    name = f"{data['dataset_name']}.try2"
    assert (asked.status_code, asked.json()["panda_task_name"]) == (202, name)
    waiting = ada.post(f"{TASKS}t1/rerun-residual/")
    assert (waiting.status_code, waiting.json()) == (409, {"detail": f"{name} waits for its submission."})
    row = ada.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": 8, "panda_task_name": name}).json()
    assert [each["match_reason"] for each in row["panda_tasks"]] == ["the first without a number", "panda_task_name"]
    assert [each["site"] for each in row["panda_tasks"]] == ["BNL_OSG_1"] * 2
    record(ada, data["did"], "y.v1.0000.root", "z.0000.root")
    assert preview(ada) == {"refusal": "Nothing is missing."}


def test_a_task_that_has_ended_can_be_run_again_as_a_whole(ada: TestClient) -> None:
    submitted(ada)
    assert ada.post(f"{TASKS}t1/set-status/", json={"status": "completed"}).status_code == 200
    asked = ada.post(f"{TASKS}t1/rerun-entire-task/").json()
    assert (asked["queued"], asked["operation"]) == (True, "rerun_entire_task")
    row = ada.get(f"{TASKS}t1/").json()
    assert (row["status"], len(row["panda_tasks"])) == ("submitted", 2)
    # Nobody could submit it: what was, is.
    failure = {"panda_tasks_id": asked["panda_tasks_id"], "reason": "no proxy"}
    assert ada.post(f"{TASKS}record-submission-failure/", json=failure).json()["status"] == "completed"
    assert ada.post(f"{TASKS}t1/rerun-entire-task/").json()["panda_task_name"].endswith(".try3")


def test_a_draft_is_submitted_not_run_again(ada: TestClient) -> None:
    task(ada, dataset(ada), config(ada))
    for verb in ("rerun-entire-task", "rerun-residual"):
        reply = ada.post(f"{TASKS}t1/{verb}/")
        assert (reply.status_code, reply.json()) == (409, {"detail": "Task t1 is draft: submit it."})


@pytest.mark.parametrize(
    ("files", "given", "refusal"),
    [
        (FILES, {"bg_mixing": True}, "Background is mixed into the task: its outputs do not follow its inputs."),
        (["a/x.hepmc", "b/x.hepmc"], {}, "Two input files have the same name."),
    ],
)
def test_where_outputs_do_not_follow_inputs_nothing_is_called_missing(
    ada: TestClient, files: list[str], given: dict[str, Any], refusal: str
) -> None:
    rows = tags_of_all_kinds(ada)
    mixed = {"generator": "x", "generator_version": "1", "bg_files": "b.json"}
    rows["evgen"] = tag(ada, parameters=mixed)
    lock(ada, "evgen", rows["evgen"])
    source = {"source": {"kind": "file_list", "location": "l.csv", "files": files}}
    data = made(ada.post(f"{API}datasets/", json=composition(rows, metadata=source)))
    task(ada, data, config(ada, data={"events_per_job": 1}, **given))
    record(ada, data["did"], "x.root")
    assert preview(ada) == {"refusal": refusal}


BAD_OUTPUTS: list[Any] = [
    {},
    {"did": "elsewhere", "files": ["x"]},
    {"did": 7, "files": ["x"]},
    {"files": ["x"]},
    {"files": []},
    {"files": ["x"] * 1001},
    {"files": ["a\0"]},
    {"files": ["x" * 501]},
    {"files": [7]},
    [1],
]


def test_bad_outputs_are_400_and_store_nothing(ada: TestClient) -> None:
    data = dataset(ada)
    task(ada, data, config(ada))
    for body in BAD_OUTPUTS:
        if isinstance(body, dict) and "files" in body and "did" not in body and body["files"] != ["x"]:
            body = {"did": data["did"], **body}
        assert ada.post(f"{TASKS}t1/outputs/", json=body).status_code == 400, body
    assert preview(ada)["refusal"]


def test_a_catalogue_that_names_another_beam_is_no_input(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    data = made(ada.post(f"{API}datasets/", json=composition(rows)))
    task(ada, data, config(ada), csv_file="EXCLUSIVE/DEMP/10x100/x.csv")
    reply = ada.post(f"{TASKS}t1/lock/")
    problem = "catalogue beam 10x100 is not that of the physics tag, 18x275"
    assert (reply.status_code, reply.json()) == (400, {"detail": f"Cannot lock — task is not ready: {problem}"})
    for name, place in (
        ("t2", "EXCLUSIVE/DEMP/18x275/x.csv"),
        ("t3", "EXCLUSIVE/x.csv"),
        ("t4", "v1.10x100/a10x100.csv"),
    ):
        task(ada, data, config(ada, name), name=name, csv_file=place)
        assert ada.post(f"{TASKS}{name}/lock/").status_code == 200, place
    # A tag without energies of that kind says nothing.
    single = tag(ada, "physics", parameters={**DIS, "beam_energy_electron": "N/A"})
    lock(ada, "physics", single)
    other = made(ada.post(f"{API}datasets/", json=composition({**rows, "physics": single})))
    task(ada, other, config(ada, "t5"), name="t5", csv_file="SINGLE/10x100/x.csv")
    assert ada.post(f"{TASKS}t5/lock/").status_code == 200


@pytest.mark.parametrize("wanted", [True, False])
def test_the_operations_agent_is_asked_through_the_broker_where_that_is_wanted(
    start: Start, tokens: Tokens, service_database: str, *, wanted: bool
) -> None:
    client = start(operations_queue=wanted)
    client.headers.update(tokens.header("pcs:write", "pcs:lock"))
    submitted(client)
    assert client.post(f"{TASKS}t1/panda-add-retry/", json={"increase": 2}).status_code == 202
    with create_engine(service_database, poolclass=NullPool).connect() as connection:
        query = text("SELECT body FROM outbox WHERE subject = 'outbound.=2Fqueue=2Fepicprod=2Eops' ORDER BY id")
        bodies = [msgspec.json.decode(row.body) for row in connection.execute(query)]
    (attempt,) = client.get(f"{TASKS}t1/").json()["panda_tasks"]
    message = {
        "msg_type": "submit_evgen_task",
        "namespace": "prodops",
        "task_name": "t1",
        "panda_tasks_id": attempt["id"],
        "panda_task_name": attempt["task_name"],
        "owner": "ada",
        "residual": False,
    }
    operation = {
        "msg_type": "panda_task_operation",
        "namespace": "prodops",
        "task_name": "t1",
        "jedi_task_id": 7,
        "operation": "increase_attempts",
        "increase": 2,
        "created_by": "ada",
    }
    assert bodies == ([message, operation] if wanted else [])
