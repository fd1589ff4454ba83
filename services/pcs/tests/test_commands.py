"""What tasks are submitted with, compared with texts written by hand from section 10.5 of pcs.md."""

import shlex
import subprocess
from typing import Any

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .test_tasks import COMMAND, TASKS, config, task
from .world import API, DIS, composition, dataset, lock, made, tag, tags_of_all_kinds


def command(client: TestClient, fmt: str, **query: Any) -> Any:
    reply = client.get(COMMAND, params={"name": "t1", "fmt": fmt, **query})
    assert reply.status_code == 200, reply.text
    return reply.text if fmt in ("condor", "panda") else reply.json()


def test_condor_with_rucio_background_and_an_input_of_its_own(client: TestClient, tokens: Tokens) -> None:
    client.headers.update(tokens.header("pcs:write", "pcs:lock", "pcs:admin"))
    client.post("/api/rucio-endpoints/", json={"name": "EIC-XRD"})
    rows = tags_of_all_kinds(client)
    rows["background"] = tag(client, "background", parameters={"background_type": "SYNRAD", "bg_files": "a b.json"})
    lock(client, "background", rows["background"])
    rows["evgen"] = tag(
        client,
        parameters={
            "generator": "EpIC",
            "generator_version": "1",
            "bg_tag_prefix": "Bkg_Exact1S_2us/GoldCt/5um",
            "bg_files": "unused",
            "signal_freq": "10",
        },
    )
    lock(client, "evgen", rows["evgen"])
    source = {"source": {"kind": "csv_manifest", "location": "EXCLUSIVE/in.csv"}}
    data = made(client.post(f"{API}datasets/", json=composition(rows, metadata=source)))
    configured = config(
        client,
        use_rucio=True,
        rucio_rse="EIC-XRD",
        bg_mixing=True,
        copy_full=True,
        target_hours_per_job="2.50",
        jug_xl_tag="",
    )
    task(client, data, configured, csv_file="")
    assert command(client, "condor") == (
        "EBEAM=18 \\\n"
        "  PBEAM=275 \\\n"
        "  DETECTOR_VERSION=26.02.0 \\\n"
        "  DETECTOR_CONFIG=epic_craterlake \\\n"
        "  COPYRECO=true \\\n"
        "  COPYFULL=true \\\n"
        "  COPYLOG=true \\\n"
        "  USERUCIO=true \\\n"
        "  X509_USER_PROXY=secrets/x509_user_proxy \\\n"
        "  OUT_RSE=EIC-XRD \\\n"
        "  CSV_FILE=EXCLUSIVE/in.csv \\\n"
        "  SIGNAL_FREQ=10 \\\n"
        "  SIGNAL_STATUS=0 \\\n"
        "  TAG_PREFIX=Bkg_Exact1S_2us/GoldCt/5um \\\n"
        "  BG_FILES='a b.json' \\\n"
        "  scripts/submit_csv.sh osg_csv hepmc3 EXCLUSIVE/in.csv 2.50"
    )


def test_condor_without_a_manifest_says_so_and_overrides_win(ada: TestClient) -> None:
    task(
        ada,
        dataset(ada),
        config(ada),
        csv_file="",
        overrides={"copy_log": False, "target_hours_per_job": 4, "public_catalog_issue": 7},
    )
    assert command(ada, "condor") == (
        "EBEAM=18 \\\n"
        "  PBEAM=275 \\\n"
        "  DETECTOR_VERSION=26.02.0 \\\n"
        "  DETECTOR_CONFIG=epic_craterlake \\\n"
        "  JUG_XL_TAG=26.02.0-stable \\\n"
        "  COPYRECO=true \\\n"
        "  COPYFULL=false \\\n"
        "  COPYLOG=false \\\n"
        "  scripts/submit_csv.sh osg_csv hepmc3 '<csv_file>' 4.00"
    )


def test_prun_with_little_and_with_everything(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    campaign = made(ada.post(f"{API}campaigns/", json={"name": "26.02.0", "created_by": "ada"}))
    path = "/volatile/eic/EPIC/EVGEN/DIS/NC/18x275"
    source = {"source": {"kind": "path", "location": path}}
    data = made(ada.post(f"{API}datasets/", json=composition(rows, metadata=source)))
    task(ada, data, config(ada))
    assert command(ada, "panda") == (
        "prun \\\n"
        "  --outDS group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1 \\\n"
        "  --prodSourceLabel test \\\n"
        "  --vo wlcg"
    )
    everything = {
        "exec_command": "./run.sh %RNDM:1",
        "official": True,
        "prod_source_label": "managed",
        "vo": "epic",
        "processing_type": "epicproduction",
        "n_jobs": 10,
        "events_per_job": 100,
        "corecount": 8,
        "no_build": True,
        "skip_scout": True,
        "outputs": "*.root",
    }
    overrides = {
        "data": {"n_jobs": 20},
        "container_image": "docker://eic_xl:26.02.0",
        "panda_site": "BNL_OSG_1",
        "panda_working_group": "EIC",
        "panda_resource_type": "MCORE",
    }
    full = config(ada, "full", data=everything)
    reply = ada.patch(
        f"{TASKS}t1/", json={"prod_config": full["id"], "campaign": campaign["id"], "overrides": overrides}
    )
    assert reply.status_code == 200
    wanted = (
        "prun \\\n"
        "  --exec './run.sh %RNDM:1' \\\n"
        "  --outDS /RECO/26.02.0/epic_craterlake/DIS/NC/18x275 \\\n"
        "  --official \\\n"
        "  --containerImage docker://eic_xl:26.02.0 \\\n"
        "  --site BNL_OSG_1 \\\n"
        "  --workingGroup EIC \\\n"
        "  --resourceType MCORE \\\n"
        "  --prodSourceLabel managed \\\n"
        "  --vo epic \\\n"
        "  --processingType epicproduction \\\n"
        "  --nJobs 20 \\\n"
        "  --nEventsPerJob 100 \\\n"
        "  --nCore 8 \\\n"
        "  --noBuild \\\n"
        "  --expertOnly_skipScout \\\n"
        "  --outputs '*.root'"
    )
    assert command(ada, "panda") == wanted
    stored = ada.post(f"{TASKS}t1/generate-commands/").json()
    assert stored["panda_command"] == wanted
    assert ada.get(f"{TASKS}t1/").json()["condor_command"] == stored["condor_command"]


def test_the_parameters_of_a_jedi_task(ada: TestClient) -> None:
    data = {"n_jobs": 5, "events_per_job": 20, "walltime_hours": 1.5, "skip_scout": True}
    configured = config(ada, use_rucio=True, events_per_task=100, panda_site="BNL_OSG_1", data=data)
    task(ada, dataset(ada), configured)
    found = command(ada, "jedi")
    name = "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1"
    transformation = found.pop("transPath")
    assert transformation.startswith("https://")
    assert "/runGen-" in transformation
    assert found == {
        "taskName": name,
        "userName": "ada",
        "vo": "eic",
        "workingGroup": "EIC",
        "campaign": "26.02.0",
        "prodSourceLabel": "test",
        "taskType": "production",
        "processingType": "epicproduction",
        "taskPriority": 900,
        "transUses": "",
        "transHome": "",
        "architecture": "",
        "container_name": "",
        "noInput": True,
        "nFilesPerJob": 1,
        "coreCount": 1,
        "ramCount": 2000,
        "ramUnit": "MBPerCore",
        "site": "BNL_OSG_1",
        "cloud": "EIC",
        "nFiles": 5,
        "nEventsPerJob": 20,
        "nEvents": 100,
        "walltime": 5400,
        "skipScout": True,
        "useRucio": True,
        "log": {
            "dataset": f"group.EIC:{name}.log",
            "type": "template",
            "param_type": "log",
            "token": "local",
            "destination": "local",
            "value": "p1001_e1_s1_r1.$PANDAID.log.${SN}.log.tgz",
        },
        "jobParameters": [
            {
                "type": "constant",
                "value": "EBEAM=18 PBEAM=275 DETECTOR_VERSION=26.02.0 DETECTOR_CONFIG=epic_craterlake "
                "JUG_XL_TAG=26.02.0-stable COPYRECO=true COPYFULL=false COPYLOG=true USERUCIO=true "
                "X509_USER_PROXY=secrets/x509_user_proxy ./run.sh",
            },
            {
                "type": "template",
                "param_type": "output",
                "token": "local",
                "destination": "local",
                "dataset": f"group.EIC:{name}",
                "value": "p1001_e1_s1_r1.$PANDAID.${SN}.edm4eic.root",
                "offset": 1000,
            },
        ],
    }
    assert '\n  "taskName"' in ada.get(COMMAND, params={"name": "t1", "fmt": "jedi"}).text


def test_the_specification_for_files_of_generated_events(ada: TestClient) -> None:
    files = ["/EVGEN/a/x.hepmc3.tree.root", "/EVGEN/a/y.hepmc.gz"]
    source = {"source": {"kind": "file_list", "location": "EXCLUSIVE/x.csv", "files": files}}
    data = dataset(ada, metadata=source)
    configured = config(ada, data={"events_per_job": 250})
    task(ada, data, configured)
    name = data["dataset_name"]
    expected = {
        "outDS": name,
        "vo": "epic",
        "userName": "ada",
        "workingGroup": "EIC",
        "site": "BNL_OSG_PanDA_1",
        "prodSourceLabel": "test",
        "taskType": "prod",
        "processingType": "epicproduction",
        "containerImage": "/cvmfs/singularity.opensciencegrid.org/eicweb/eic_xl:26.02.0-stable",
        "nCore": 1,
        "memory": 4096,
        "disk": 4096,
        "walltimeHours": None,
        "skipScout": True,
        "nJobs": 2,
        "nEventsPerJob": 1,
        "exec": "python3 evgen_job_dispatcher.py %RNDM=0 x",
        "csvBase": "x",
        "csvRows": ["/EVGEN/a/x,hepmc3.tree.root,250,0000", "/EVGEN/a/y,hepmc.gz,250,0000"],
        "env": {
            "EBEAM": "18",
            "PBEAM": "275",
            "DETECTOR_VERSION": "26.02.0",
            "DETECTOR_CONFIG": "epic_craterlake",
            "JUG_XL_TAG": "26.02.0-stable",
            "COPYRECO": "true",
            "COPYFULL": "false",
            "COPYLOG": "true",
            "CSV_FILE": "EXCLUSIVE/x.csv",
        },
        "residual": False,
    }
    assert command(ada, "evgen") == expected
    ada.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": 1})
    second = ada.post(f"{TASKS}record-submission/?name=t1", json={"jedi_task_id": 2}).json()["panda_tasks"][1]
    again = command(ada, "evgen", panda_tasks_id=second["id"])
    assert (again["outDS"], again["env"]["TAG_PREFIX"]) == (f"{name}.try2", "try2")


@pytest.mark.parametrize(
    ("given", "files", "reason"),
    [
        ({}, ["x.hepmc"], "events_per_job is not set in the configuration's data."),
        ({"data": {"events_per_job": 1}, "jug_xl_tag": ""}, ["x.hepmc"], "Neither container_image nor jug_xl_tag"),
        ({"data": {"events_per_job": 1}}, [], "The dataset names no input files."),
        (
            {"data": {"events_per_job": 1}},
            ["x.txt"],
            "Not a file of events, or a name that no manifest can",
        ),
        ({"data": {"events_per_job": 1}}, ["a,b.hepmc"], "Not a file of events"),
    ],
)
def test_a_specification_is_whole_or_refused(
    ada: TestClient, given: dict[str, Any], files: list[str], reason: str
) -> None:
    source = {"source": {"kind": "file_list", "location": "l", "files": files}}
    task(ada, dataset(ada, metadata=source), config(ada, **given))
    reply = ada.get(COMMAND, params={"name": "t1", "fmt": "evgen"})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith(reason)


def test_everything_that_a_task_is_made_of(ada: TestClient) -> None:
    row = task(ada, dataset(ada), config(ada), overrides={"copy_full": True})
    found = command(ada, "dump")
    assert list(found) == ["task", "dataset", "tags", "prod_config", "effective_config"]
    assert found["task"] == ada.get(f"{TASKS}{row['name']}/").json()
    assert list(found["tags"]) == ["physics", "evgen", "simu", "reco"]
    assert (found["prod_config"]["copy_full"], found["effective_config"]["copy_full"]) == (False, True)


def test_no_text_of_a_user_is_run_by_the_shell(ada: TestClient) -> None:
    evil = "$(touch /nowhere/pwned); `id` 'x\" \\ \n&& echo hacked"
    rows = tags_of_all_kinds(ada)
    rows["physics"] = tag(ada, "physics", parameters={**DIS, "beam_energy_electron": evil})
    lock(ada, "physics", rows["physics"])
    data = made(ada.post(f"{API}datasets/", json=composition(rows)))
    task(ada, data, config(ada, jug_xl_tag=evil.replace("\n", ""), data={"exec_command": evil}), csv_file="x; echo y")
    shown = command(ada, "condor").replace("scripts/submit_csv.sh", 'sh -c \'env; printf "<%s>" "$@"\' _')
    ran = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=False)
    assert f"EBEAM={evil}" in ran.stdout
    assert "<x; echo y>" in ran.stdout
    words = shlex.split(command(ada, "panda").replace("\\\n", ""))
    assert words[words.index("--exec") + 1] == evil
