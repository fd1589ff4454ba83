"""The registry's commands, against a registry behind a real port."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import typer
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from sluice_core.auth import digest
from sluice_core.cli import Failure, Refusal
from sluice_core.testing.serving import serving
from sluice_registry.cli import agents as cli
from sluice_registry.cli import tokens as token_cli
from sluice_registry.cli import users as user_cli

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
    app.add_typer(cli.commands, name="agents")
    app.add_typer(token_cli.token, name="token")
    app.add_typer(token_cli.key, name="key")
    app.add_typer(token_cli.whoami, name="whoami")
    app.add_typer(user_cli.user, name="user")
    app.add_typer(user_cli.role, name="role")
    return lambda *arguments, **options: CliRunner().invoke(app, arguments, **options)


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


# --- tokens


def made(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def refused(result: Result) -> Refusal:
    assert isinstance(result.exception, Refusal), result.output
    return result.exception


def failed(result: Result) -> str:
    assert type(result.exception) is Failure, result.output
    return str(result.exception)


def test_a_new_token_stands_alone_on_the_output(platform: str, run: Run) -> None:
    words = ("--subject", "ada", "--create-user", "--role", "reader", "--scope", "pcs:lock")
    result = run("token", "create", "laptop", *words)
    token = made(result)
    assert whoami(platform, token)["subject"] == "ada"
    assert whoami(platform, token)["scopes"] == ["logs:read", "pcs:lock", "stream:read"]
    assert "ada (reader, pcs:lock)" in result.stderr
    assert token not in result.stderr


def test_scenario_27_the_token_command_prints_a_token_at_each_run(platform: str, run: Run) -> None:
    """Scenario 27 of swf-monitor.md, as decision 5 has it: a second run prints another, and both are good."""
    first = made(run("token", "create", "ada", "--create-user"))
    second = made(run("token", "create", "ada", "--create-user"))
    third = made(run("token", "create", "ada"))
    assert len({first, second, third}) == 3
    for token in (first, second, third):
        found = whoami(platform, token)
        assert found["subject"] == "ada"
        assert {"agents:write", "ids:write", "logs:write"} <= set(found["scopes"])
        assert "admin" not in found["scopes"]
    refusal = refused(run("token", "create", "nobody"))
    assert (refusal.code, str(refusal)) == (
        1,
        'User "nobody" does not exist. Use --create-user to create it.',
    )


def test_a_user_gets_the_rights_that_he_has(platform: str, run: Run) -> None:
    made(run("user", "add", "ada", "--role", "reader"))
    assert whoami(platform, made(run("token", "create", "ada")))["scopes"] == ["logs:read", "stream:read"]


def test_a_program_needs_no_user(platform: str, run: Run) -> None:
    result = run("token", "create", "daq", "--scope", "agents:write", "--namespace", "n1", "--namespace", "n2")
    found = whoami(platform, made(result))
    assert (found["scopes"], found["namespaces"]) == (["agents:write"], ["n1", "n2"])
    assert "in n1, n2" in result.stderr


def test_programs_get_the_token_as_json(platform: str, run: Run) -> None:
    said = json.loads(made(run("token", "create", "ci", "--scope", "dqm:write", "--expires", "2h", "--json")))
    assert (said["roles"], said["scopes"]) == ([], ["dqm:write"])
    left = datetime.fromisoformat(said["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        (["--create-user", "--role", "emperor"], "emperor"),
        (["--scope", "dqm:write", "--expires", "soon"], "90s"),
        (["--scope", "x"], "scopes"),
        (["--scope", "admin", "--namespace", "n1"], "namespaces"),
    ],
)
def test_a_bad_wish_is_told_in_one_sentence(platform: str, run: Run, wish: list[str], word: str) -> None:
    refusal = refused(run("token", "create", "x", *wish))
    assert word in str(refusal)
    assert "Value error" not in str(refusal)
    assert (refusal.code, refusal.status) == (1, 400)


def test_who_may_not_make_tokens_is_told_so(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TOKEN", made(run("token", "create", "agent", "--create-user")))
    assert "tokens:admin" in str(refused(run("token", "create", "another", "--scope", "dqm:write")))


def test_tokens_are_listed_and_revoked(platform: str, run: Run) -> None:
    tokens = [json.loads(made(run("token", "create", "daq", "--scope", "dqm:write", "--json"))) for _ in range(2)]
    first, second = (token["id"] for token in tokens)
    assert made(run("token", "revoke", first)) == f"{first} is revoked"
    shown = made(run("token", "list", "--subject", "daq"))
    assert (first in shown, second in shown, "dqm:write" in shown) == (False, True, True)
    assert tokens[1]["token"] not in shown
    listed = json.loads(made(run("token", "list", "--subject", "daq", "--all", "--json")))
    assert [(row["id"], row["revoked_at"] is None) for row in listed] == [(second, True), (first, False)]
    assert json.loads(made(run("token", "revoke", first, second, "--json"))) == {"revoked": [first, second]}
    assert (
        httpx2.get(f"{platform}/api/auth/whoami", headers={"Authorization": f"Token {tokens[1]['token']}"}).status_code
        == 401
    )
    assert (refused(run("token", "revoke", "no/body")).code) == 1


def test_all_pages_are_listed(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cli, "PAGE", 2)
    for number in range(5):
        made(run("user", "add", f"user-{number}"))
    assert len(json.loads(made(run("user", "list", "--json")))) == 5


# --- import

OLD = "0123456789abcdef0123456789abcdef01234567"


def test_old_tokens_are_taken_over(platform: str, run: Run, tmp_path: Path) -> None:
    lines = (
        "# tokens of the old monitor",
        "",
        f"ada {OLD}",
        f'{{"username": "bob", "token": "{OLD[::-1]}", "roles": ["reader"], "name": "old laptop"}}',
        f'{{"username": "cleo", "sha256": "{digest("cleos")}"}}',
    )
    file = tmp_path / "tokens"
    file.write_text("\n".join(lines))
    assert made(run("token", "import", str(file))) == "3 imported, 0 were there"
    assert made(run("token", "import", str(file))) == "0 imported, 3 were there"
    assert whoami(platform, OLD)["subject"] == "ada"
    assert "agents:write" in whoami(platform, OLD)["scopes"]
    assert whoami(platform, OLD[::-1])["scopes"] == ["logs:read", "stream:read"]
    assert whoami(platform, "cleos")["subject"] == "cleo"
    (row,) = json.loads(made(run("token", "list", "--subject", "bob", "--json")))
    assert row["name"] == "old laptop"
    made(run("token", "revoke", row["id"]))
    reply = httpx2.get(f"{platform}/api/auth/whoami", headers={"Authorization": f"Token {OLD[::-1]}"})
    assert reply.status_code == 401


def test_the_options_hold_for_lines_that_say_nothing(platform: str, run: Run) -> None:
    words = ("--scope", "agents:write", "--namespace", "n1", "--json")
    result = run("token", "import", "-", *words, input=f"ada {OLD}\n")
    assert json.loads(made(result)) == {"imported": 1, "present": 0}
    found = whoami(platform, OLD)
    assert (found["scopes"], found["namespaces"]) == (["agents:write"], ["n1"])


def test_many_old_tokens_go_in_parts(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cli, "PAGE", 10)
    lines = "\n".join(f"user-{number} {number:040x}" for number in range(25))
    assert made(run("token", "import", "-", input=lines)) == "25 imported, 0 were there"


@pytest.mark.parametrize(
    "line",
    [
        "s3cret",
        "ada bob s3cret",
        "ada ümlaut-s3cret",
        "ada " + "s3cret" * 2000,
        '{"username": "ada", "token": "s3cret"',
        '{"username": "ada"}',
        '{"token": "s3cret"}',
        '{"username": "ada", "token": ["s3cret"]}',
        '{"username": "ada", "token": "s3cret", "sha256": "x"}',
        '{"username": "ada", "token": "s3cret", "rolls": ["admin"]}',
    ],
)
def test_a_line_that_is_no_token_imports_nothing_and_is_not_shown(platform: str, run: Run, line: str) -> None:
    said = failed(run("token", "import", "-", input=f"ada {OLD}\n{line}\n"))
    assert "line 2" in said
    assert "s3cret" not in said
    assert json.loads(made(run("token", "list", "--subject", "ada", "--json"))) == []


def test_a_file_that_cannot_be_read_is_told(run: Run, tmp_path: Path) -> None:
    assert "No such file" in failed(run("token", "import", str(tmp_path / "absent")))


# --- users, roles, keys


def test_users_are_made_changed_and_switched_off(platform: str, run: Run) -> None:
    assert made(run("user", "add", "ada", "--email", "a@b", "--role", "agent")) == "ada is a user"
    assert made(run("user", "roles", "ada")) == "agent"
    assert made(run("user", "roles", "ada", "reader", "pcs")) == "ada has reader pcs"
    assert made(run("user", "disable", "ada")) == "ada is switched off"
    (row,) = json.loads(made(run("user", "list", "--json")))
    assert (row["username"], row["email"], row["roles"], row["is_active"]) == ("ada", "a@b", ["pcs", "reader"], False)
    assert refused(run("token", "create", "ada")).status == 409
    assert made(run("user", "enable", "ada")) == "ada is switched on"
    assert made(run("user", "unbind", "ada")) == "ada belongs to no account of the facility"
    assert refused(run("user", "unbind", "nobody")).status == 404
    assert made(run("user", "roles", "ada", "--none")) == "ada has no role"
    assert made(run("user", "list", "--role", "pcs")).count("ada") == 0
    assert "ada" in made(run("user", "list"))
    assert refused(run("user", "add", "ada")).status == 409
    assert refused(run("user", "disable", "nobody")).code == 1
    assert "--none" in failed(run("user", "roles", "ada", "reader", "--none"))


def test_a_password_comes_by_the_standard_input(platform: str, run: Run) -> None:
    """What ``setup_testuser`` did (11.1); a password is never an argument."""
    words = ("user", "add", "testuser", "--email", "testuser@example.com", "--password")
    result = run(*words, input="correct horse\n")
    assert "correct horse" not in made(result) + result.stderr

    def status(password: str) -> int:
        body = {"username": "testuser", "password": password}
        return httpx2.post(f"{platform}/api/auth/login", json=body).status_code

    assert status("correct horse") == 200
    assert made(run("user", "passwd", "testuser", input="another horse")) == "testuser has a new password"
    assert (status("correct horse"), status("another horse")) == (401, 200)
    assert "no password" in failed(run("user", "passwd", "testuser", input="\n"))
    assert "password" in str(refused(run("user", "passwd", "testuser", input="short\n")))


def test_at_a_terminal_a_password_is_asked_for_twice(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["correct horse", "correct horse", "one", "two"]
    monkeypatch.setattr(user_cli, "getpass", lambda _: answers.pop(0))
    monkeypatch.setattr(user_cli, "_is_terminal", lambda: True)
    made(run("user", "add", "ada", "--password"))
    assert "same" in failed(run("user", "passwd", "ada"))


def test_roles_are_shown_with_what_they_grant(platform: str, run: Run) -> None:
    shown = made(run("role", "list"))
    assert all(word in shown for word in ("operator", "agents:write", "Write agents"))
    assert json.loads(made(run("role", "list", "--json")))[0]["name"] == "admin"


def test_a_key_is_rotated(platform: str, run: Run) -> None:
    assert " signs from " in made(run("key", "rotate"))
    assert json.loads(made(run("key", "rotate", "--json"))).keys() == {"kid", "not_before"}
    assert len(httpx2.get(f"{platform}/.well-known/jwks.json").json()["keys"]) == 3


def test_one_is_told_who_one_is(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(run("whoami")) == "admin may: admin"
    monkeypatch.setenv("SLUICE_TOKEN", made(run("token", "create", "d", "--scope", "dqm:write", "--namespace", "n1")))
    assert made(run("whoami")).splitlines() == ["d may: dqm:write", "in the namespaces n1 only"]
    assert json.loads(made(run("whoami", "--json")))["subject"] == "d"
    monkeypatch.setenv("SLUICE_TOKEN", "nonsense")
    assert refused(run("whoami")).status == 401
