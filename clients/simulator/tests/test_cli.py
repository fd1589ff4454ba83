"""``sluice simulate run``: what it is told, and what it shows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sluice_core.cli import Failure
from sluice_simulator.cli import simulate
from sluice_simulator.simulation import Simulation, Summary

TICKS = [("run_imminent", 5.0), ("stf_gen", 14.2), ("completed", 20.0)]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Simulation]:
    """Runs that were to be played; none was."""
    for name in ("SWF_MONITOR_URL", "SWF_API_TOKEN", "SLUICE_URL", "SLUICE_TOKEN", "ACTIVEMQ_PORT", "ACTIVEMQ_USE_SSL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_DATA", str(tmp_path))
    found: list[Simulation] = []

    def run(simulation: Simulation, watch: Callable[[Simulation], None] = lambda _: None) -> Summary:
        found.append(simulation)
        simulation.runner.generated = 3
        watch(simulation)
        checks = {"every slice is there": simulation.site.namespace != "wrong"}
        return Summary("wd-ada-0001", 101, False, 1.5, TICKS, simulation.counts(), checks)

    monkeypatch.setattr(Simulation, "run", run)
    return found


def run(*options: str) -> Result:
    return CliRunner().invoke(simulate, ["run", *options])


def test_a_run_is_what_the_options_say(played: list[Simulation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWF_MONITOR_URL", "http://platform:8002")
    monkeypatch.setenv("SWF_API_TOKEN", "secret")
    monkeypatch.setenv("ACTIVEMQ_HOST", "broker")
    options = ("--stfs", "3", "--periods", "2", "--tf", "5", "--slices", "4", "--speed", "100x", "--workers")
    shown = run(*options, "--daq", "stf_interval=1.5")
    assert shown.exit_code == 0, shown.output
    (simulation,) = played
    assert (simulation.plan.files, simulation.plan.tfs, simulation.plan.slices, simulation.plan.speed) == (6, 5, 4, 100)
    assert simulation.plan.seconds["stf_interval"] == 1.5
    assert [agent.kind for agent in simulation.agents] == [
        "panda_worker",
        "Fast_Processing",
        "fastmon",
        "DATA",
        "DAQ_Simulator",
    ]
    site = simulation.site
    assert (site.url, site.broker.host, site.broker.port) == ("http://platform:8002", "broker", 61613)
    assert "3/6" in shown.output
    assert "every slice is there" in shown.output
    assert "secret" not in shown.output


def test_json_says_all_and_the_exit_code_whether_it_is_as_it_should_be(
    played: list[Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWF_MONITOR_URL", "http://platform:8002")
    said = run("--json", "--period", "20")
    assert said.exit_code == 0
    summary: dict[str, Any] = json.loads(said.stdout)
    assert (summary["run_number"], summary["ok"], summary["ticks"][0]) == (101, True, ["run_imminent", 5.0])
    assert played[0].plan.files == 10
    assert run("--json", "--namespace", "wrong").exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--speed", "fast"), "is no speed"),
        (("--speed", "0x"), "is no speed"),
        (("--speed", "nan"), "is no speed"),
        (("--daq", "stf_interval"), "is not NAME=SECONDS"),
        (("--daq", "tea_break=1"), "is not NAME=SECONDS"),
        (("--daq", "stf_interval=-1"), "is not NAME=SECONDS"),
        (("--stfs", "1", "--period", "1"), "say --stfs or --period"),
        ((), "no `sluice up` runs"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_sentence(
    played: list[Simulation], options: tuple[str, ...], said: str
) -> None:
    refused = run(*options).exception
    assert isinstance(refused, Failure)
    assert said in str(refused)
    assert played == []
