"""``sluice runs``, ``sluice run`` and ``sluice executions``, against a service behind a real port."""

import json
from collections.abc import Iterator

import pytest
import requests
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from services.runs.tests.bodies import AT, definition, execution, run_state
from sluice_core.cli import Failure
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens
from sluice_runs.cli import runs as cli


@pytest.fixture
def platform(make_app: AppMaker, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The service lives in the process whose output the tests look at.
    with capture_logs(), serving(make_app()) as served:
        headers = tokens.header("runs:write")
        monkeypatch.setenv("SLUICE_URL", served.url)
        monkeypatch.setenv("SLUICE_TOKEN", headers["Authorization"].split()[1])
        for name, body in (
            ("workflow-definitions", definition()),
            ("runs", {"run_number": 101, "start_time": AT, "end_time": "2026-05-05T11:00:05"}),
            ("runs", {"run_number": 102, "start_time": "2026-05-05T12:00:00"}),
            ("run-states", run_state(101, phase="completed", state="ended", substate=None, slices_created=15)),
        ):
            reply = requests.post(f"{served.url}/api/{name}/", json=body, headers=headers, timeout=10)
            assert reply.status_code == 201, reply.text
        wd = requests.get(f"{served.url}/api/workflow-definitions/", timeout=10).json()[0]["id"]
        for n, status in ((1, "completed"), (2, "running")):
            body = execution(wd, execution_id=f"wd-ada-000{n}", status=status, namespace="[red]n1")
            assert requests.post(f"{served.url}/api/workflow-executions/", json=body, headers=headers, timeout=10).ok
        first = next(row["run_id"] for row in requests.get(f"{served.url}/api/runs/", timeout=10).json())
        stf = {"run": first, "stf_filename": "swf.101.000001.stf", "file_size_bytes": 2_000_000}
        assert requests.post(f"{served.url}/api/stf-files/", json=stf, headers=headers, timeout=10).ok
        yield served.url


def run(*arguments: str) -> Result:
    # As the launcher does it.
    app = typer.Typer()
    for name in ("runs", "run", "executions"):
        app.add_typer(getattr(cli, name), name=name)
    return CliRunner().invoke(app, arguments)


def test_runs_are_listed_newest_first_with_their_states(platform: str) -> None:
    shown = run("runs")
    assert shown.exit_code == 0, shown.output
    assert shown.output.index("102") < shown.output.index("101")
    assert "completed/ended" in shown.output
    assert "1:00:05" in shown.output
    listed = json.loads(run("runs", "--json", "--since", "2026-05-05T11:00:00").stdout)
    assert [row["run_number"] for row in listed] == [102]


def test_a_run_is_shown_with_figures_and_timeline(platform: str) -> None:
    shown = run("run", "101")
    assert shown.exit_code == 0, shown.output
    for expected in ("completed/ended", "1 (1 registered)", "2,000,000", "swf.101.000001.stf", "started"):
        assert expected in shown.output
    found = json.loads(run("run", "101", "--json").stdout)
    assert found["report"]["stf_files"]["count"] == 1
    assert [line["what"] for line in found["timeline"]] == ["started", "completed/ended", "ended", "registered"]
    assert isinstance(run("run", "7").exception, Failure)


def test_executions_are_filtered_and_their_texts_are_no_markup(platform: str) -> None:
    shown = run("executions", "--status", "running")
    assert "[red]n1" in shown.output
    assert "wd-ada-0002" in shown.output
    assert "wd-ada-0001" not in shown.output
    assert len(json.loads(run("executions", "--json").stdout)) == 2
    assert json.loads(run("executions", "--json", "--namespace", "other").stdout) == []


def test_a_watched_table_is_drawn_again_and_outlives_an_outage(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    naps = iter([None, None])

    def nap(_: float) -> None:
        if next(naps, 0) == 0:
            raise KeyboardInterrupt
        monkeypatch.setattr("sluice_core.cli.Api.get", away)

    def away(*_: object, **__: object) -> None:
        raise Failure("the platform does not answer")

    monkeypatch.setattr("time.sleep", nap)
    shown = run("executions", "--watch")
    assert shown.exit_code == 0
    assert "wd-ada-0002" in shown.output
    assert "does not answer" in shown.output
    assert isinstance(run("runs", "--watch", "--json").exception, Failure)
