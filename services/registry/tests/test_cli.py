"""``sluice agents`` and ``sluice token create``, against a registry behind a real port."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import typer
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from sluice_core.cli import Failure, Refusal
from sluice_core.testing.serving import serving
from sluice_registry import cli

from .conftest import MakeApp

if TYPE_CHECKING:
    from rich.table import Table

ADMIN = {"Authorization": "Token first-token"}

Run = Callable[..., Result]


@pytest.fixture
def platform(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The service lives in the process whose output the tests look at.
    with capture_logs(), serving(make_app(admin_token=SecretStr("first-token"))) as served:
        monkeypatch.setenv("SLUICE_URL", served.url)
        monkeypatch.setenv("SLUICE_TOKEN", "first-token")
        monkeypatch.setenv("COLUMNS", "200")
        yield served.url


@pytest.fixture
def run() -> Run:
    # As the launcher does it.
    app = typer.Typer()
    app.add_typer(cli.agents, name="agents")
    app.add_typer(cli.token, name="token")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def beat(platform: str, name: str, **said: Any) -> None:
    body = {"instance_name": name, "agent_type": "DATA", "status": "OK", **said}
    assert httpx2.post(f"{platform}/api/systemagents/heartbeat/", json=body, headers=ADMIN).status_code == 201


def whoami(platform: str, token: str) -> Any:
    return httpx2.get(f"{platform}/api/auth/whoami", headers={"Authorization": f"Token {token}"}).json()


def test_agents_are_shown_with_their_last_heartbeat(platform: str, run: Run) -> None:
    beat(platform, "daq-1", namespace="n1", operational_state="READY", hostname="h1", pid=12)
    beat(platform, "[red]daq-2[/red]", status="ERROR")
    shown = run("agents").output
    line = next(line for line in shown.splitlines() if "daq-1" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "daq-1",
        "n1",
        "DATA",
        "OK",
        "READY",
        "0 s ago",
        "h1",
        "12",
    ]
    assert "[red]daq-2[/red]" in shown


def test_agents_of_one_namespace_are_shown_alone(platform: str, run: Run) -> None:
    beat(platform, "daq-1", namespace="n1")
    beat(platform, "daq-2", namespace="n2")
    found = json.loads(run("agents", "--namespace", "n2", "--json").output)
    assert [agent["instance_name"] for agent in found] == ["daq-2"]


def test_no_agents_are_said_to_be_none(platform: str, run: Run) -> None:
    assert "no agents" in run("agents").output


def test_watching_is_not_for_programs(run: Run) -> None:
    assert isinstance(run("agents", "--watch", "--json").exception, Failure)


def test_watching_goes_on_while_the_platform_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "REFRESH", 0.0)
    agent = {"agent_type": "DATA", "namespace": None, "status": "OK", "operational_state": "READY"}
    row = {**agent, "instance_name": "daq-1", "last_heartbeat": None, "hostname": None, "pid": None}
    answers: list[list[dict[str, Any]] | BaseException] = [[row], Failure("it does not answer"), KeyboardInterrupt()]

    def draw() -> "Table":
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return cli.table(answer)

    cli.follow(draw)
    shown = capsys.readouterr().out
    assert "daq-1" in shown
    assert "it does not answer" in shown
    assert answers == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (90000, "1 d ago")],
)
def test_ages_are_told_in_their_largest_unit(seconds: float, shown: str) -> None:
    assert cli.age(seconds) == shown


def test_a_new_token_stands_alone_on_the_output(platform: str, run: Run) -> None:
    result = run("token", "create", "laptop", "--subject", "ada", "--role", "reader", "--scope", "pcs:lock")
    assert result.exit_code == 0
    token = result.stdout.strip()
    assert whoami(platform, token)["subject"] == "ada"
    assert whoami(platform, token)["scopes"] == ["logs:read", "pcs:lock", "stream:read"]
    assert "ada (reader, pcs:lock)" in result.stderr
    assert token not in result.stderr


def test_a_token_without_further_words_does_an_agents_work(platform: str, run: Run) -> None:
    token = run("token", "create", "ada", "--create-user").stdout.strip()
    found = whoami(platform, token)
    assert found["subject"] == "ada"
    assert {"agents:write", "ids:write", "logs:write"} <= set(found["scopes"])
    assert "admin" not in found["scopes"]


def test_a_second_token_leaves_the_first_valid(platform: str, run: Run) -> None:
    tokens = [run("token", "create", "ada").stdout.strip() for _ in range(2)]
    assert len({whoami(platform, token)["token_id"] for token in tokens}) == 2


def test_programs_get_the_token_as_json(platform: str, run: Run) -> None:
    made = json.loads(run("token", "create", "ci", "--scope", "dqm:write", "--expires", "2h", "--json").stdout)
    assert (made["roles"], made["scopes"]) == ([], ["dqm:write"])
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("wish", "word"), [(["--role", "emperor"], "emperor"), (["--expires", "soon"], "90s"), (["--scope", "x"], "scopes")]
)
def test_a_bad_wish_is_told_in_one_sentence(platform: str, run: Run, wish: list[str], word: str) -> None:
    refusal = run("token", "create", "x", *wish).exception
    assert isinstance(refusal, Refusal)
    assert word in str(refusal)
    assert "Value error" not in str(refusal)
    assert (refusal.code, refusal.status) == (1, 400)


def test_who_may_not_make_tokens_is_told_so(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TOKEN", run("token", "create", "agent").stdout.strip())
    refusal = run("token", "create", "another").exception
    assert isinstance(refusal, Refusal)
    assert "tokens:admin" in str(refusal)
