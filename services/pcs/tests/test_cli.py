"""``sluice pcs``, against a service behind a real port."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from sluice_core.cli import Failure, Refusal
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens
from sluice_pcs.cli.pcs import commands

from .test_tasks import EXAMPLE
from .world import API

Run = Callable[[str], Result]


@pytest.fixture
def platform(make_app: AppMaker, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The service lives in the process whose output the tests look at.
    with capture_logs(), serving(make_app()) as served:
        monkeypatch.setenv("SLUICE_URL", served.url)
        monkeypatch.setenv("SLUICE_TOKEN", tokens.header("admin")["Authorization"].split()[1])
        monkeypatch.setenv("COLUMNS", "250")
        yield served.url


@pytest.fixture
def run() -> Run:
    app = typer.Typer()
    app.add_typer(commands, name="pcs")
    return lambda line: CliRunner().invoke(app, ["pcs", *shlex.split(line)])


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


@pytest.mark.usefixtures("platform")
def test_the_campaign_of_26_02_0_comes_in_goes_out_and_is_looked_at(run: Run, tmp_path: Path) -> None:
    assert said(run("import --builtin 26.02.0 --dry-run --json"))["counts"]["created"] == 68
    assert "68" in run("import --builtin 26.02.0").stdout
    assert said(run("import --builtin 26.02.0 --json"))["counts"] == {"created": 0, "unchanged": 68, "different": 0}
    file = tmp_path / "campaign.json"
    assert run(f"export --name 26.02.0 --output {file}").exit_code == 0
    assert said(run(f"import {file} --json"))["counts"]["unchanged"] == 68
    assert len(said(run("tags p --json"))) == 47
    assert [row["tag_label"] for row in said(run("tags p --search photoproduction --json"))] == ["p4045", "p4046"]
    assert "GoldCt/10um" in run("tags e").stdout
    assert said(run("show P1001 --json"))["description"] == "DIS NC 5x41 ep minQ2=1"
    assert "beam_energy_hadron" in run("show p1001").stdout
    assert said(run("diff p1001 p1002 --json"))["parameters"] == {"beam_energy_hadron": {"left": "41", "right": "100"}}
    assert run("diff p1001 p1002").exit_code == 0
    assert run("lock s1").stdout == "s1 is locked.\n"
    again = run("lock s1")
    assert isinstance(again.exception, Refusal)
    assert "already locked" in str(again.exception)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    "line",
    [
        "tags x",
        "show x1",
        "show p",
        "diff p1 e1",
        "import",
        "import nowhere.json",
        "import --builtin 99",
        "queues load x",
    ],
)
def test_what_cannot_be_done_is_one_sentence(run: Run, line: str) -> None:
    result = run(line)
    assert isinstance(result.exception, Failure)
    assert "\n" not in str(result.exception)


def test_a_task_is_shown_locked_and_its_command_printed(run: Run, platform: str, tokens: Tokens) -> None:
    said(run("import --builtin 26.02.0 --created-by ada --json"))
    with requests.Session() as session:
        session.headers.update(tokens.header("admin"))

        def make(path: str, **body: Any) -> Any:
            reply = session.post(f"{platform}{API}{path}/", json={"created_by": "ada", **body}, timeout=10)
            assert reply.status_code == 201, reply.text
            return reply.json()

        keys = {}
        for kind, label in (("physics", "p1005"), ("evgen", "e1"), ("simu", "s1"), ("reco", "r1")):
            keys[f"{kind}_tag"] = said(run(f"lock {label} --json"))["id"]
        detector = {"detector_version": "26.02.0", "detector_config": "epic_craterlake"}
        data = make("datasets", **keys, **detector)
        config = make("prod-configs", name="std", jug_xl_tag="26.02.0-stable", use_rucio=False)
        make("prod-tasks", name="t1", dataset=data["id"], prod_config=config["id"], csv_file="EXCLUSIVE/x.csv")
    assert data["dataset_name"] in run("datasets").stdout
    assert run("task command t1").stdout == f"{EXAMPLE}\n"
    assert said(run("task command t1 --format jedi"))["userName"] == "ada"
    assert said(run("task command t1 --json")) == {"condor": EXAMPLE}
    assert run("task lock t1").stdout == "t1 is ready.\n"
    assert [row["name"] for row in said(run("task list --status ready --json"))] == ["t1"]
    assert "EXCLUSIVE/x.csv" in run("task show t1").stdout
    refused = run("task submit t1 --dry-run")
    assert "events_per_job" in str(refused.exception)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("kind", ["queues", "endpoints"])
def test_a_file_of_queues_or_endpoints_is_loaded_and_loaded_again(run: Run, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "given.json"
    file.write_text(json.dumps({"BNL/OSG": {"cores": 8, "status": "online"}, "CERN": {}}))
    none = {"created": 0, "changed": 0, "unchanged": 0, "deleted": 0}
    assert said(run(f"{kind} load {file} --json")) == {**none, "created": 2}
    file.write_text(json.dumps({"BNL/OSG": {"cores": 16, "status": "online"}, "CERN": {}}))
    assert said(run(f"{kind} load {file} --json")) == {**none, "changed": 1, "unchanged": 1}
    assert run(f"{kind} load {file}").exit_code == 0
    file.write_text(json.dumps([{"name": "CERN", "description": "d"}]))
    assert said(run(f"{kind} load {file} --json")) == {**none, "changed": 1}
    assert said(run(f"{kind} load {file} --sync --json")) == {**none, "unchanged": 1, "deleted": 1}
    for wrong in ("[7]", '[{"name": 7}]', '[{"name": "x", "vo": "eic"}]'):
        file.write_text(wrong)
        assert isinstance(run(f"{kind} load {file}").exception, Failure), wrong
