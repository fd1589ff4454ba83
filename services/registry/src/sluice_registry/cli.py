"""``sluice agents``, ``sluice token`` and ``sluice audit``."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Failure, console, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["agents", "audit", "token"]

REFRESH = 2.0
COLOURS = {"OK": "green", "WARNING": "yellow", "ERROR": "red", "EXITED": "bright_black"}
DEFAULT_ROLE = "agent"

agents = typer.Typer(help="Agents and their last heartbeats.", invoke_without_command=True, no_args_is_help=False)
audit = typer.Typer(help="Who did what.", invoke_without_command=True, no_args_is_help=False)
token = typer.Typer(help="Tokens of programs and people.", no_args_is_help=True)


@agents.callback()
def list_agents(
    namespace: Annotated[str | None, typer.Option(help="Only agents of this namespace.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show agents and their last heartbeats."""
    if watch and as_json:
        raise Failure("--watch is for people, --json for programs: leave one of them out")
    with Api.find() as api:

        def read() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = api.get("/api/systemagents/", namespace=namespace)
            return found

        if as_json:
            print_json(read())
        elif watch:
            follow(lambda: table(read()))
        else:
            console().print(table(read()))


def follow(draw: Callable[[], "Table"]) -> None:
    """Draw a table again and again until Ctrl-C; while the platform does not answer, the last one stays."""
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        shown = draw()
        try:
            while True:
                live.update(shown, refresh=True)
                time.sleep(REFRESH)
                try:
                    shown = draw()
                except Failure as exc:
                    shown.caption = str(exc)
        except KeyboardInterrupt:
            return


def table(rows: Sequence[dict[str, Any]]) -> "Table":
    """Return agents as a table; their own texts are never read as markup."""
    from rich.table import Table
    from rich.text import Text

    now = datetime.now(UTC)
    found = Table("Agent", "Namespace", "Type", "Status", "State", "Last heartbeat", "Host", "PID")
    for row in rows:
        heard = row["last_heartbeat"]
        cells = (
            row["instance_name"],
            row["namespace"],
            row["agent_type"],
            Text(row["status"], COLOURS.get(row["status"], "")),
            Text(row["operational_state"], COLOURS.get(row["operational_state"], "")),
            age((now - datetime.fromisoformat(heard)).total_seconds()) if heard else "never",
            row["hostname"],
            row["pid"],
        )
        found.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in cells))
    if not rows:
        found.caption = "no agents"
    return found


def age(seconds: float) -> str:
    """Say how long ago something was, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    subject: Annotated[str | None, typer.Option(help="User name that it speaks for.", show_default="the name")] = None,
    create_user: Annotated[
        bool, typer.Option("--create-user", help="Accepted for old scripts: a user needs no account to have a token.")
    ] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="Role that it gets; may be repeated.", show_default=DEFAULT_ROLE)
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="Single right beyond its roles; may be repeated.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="Life, such as 12h or 90d.", show_default="as the platform says")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once. What was made before stays valid."""
    roles = role or ([] if scope else [DEFAULT_ROLE])
    body = {"name": name, "subject": subject, "roles": roles, "scopes": scope or [], "expires_in": expires}
    with Api.find() as api:
        made = api.post("/api/auth/tokens/", body)
    if as_json:
        print_json(made)
        return
    may = ", ".join([*made["roles"], *made["scopes"]])
    console(stderr=True).print(
        f"Token of {made['subject']} ({may}), valid until {made['expires_at']}. It is shown this once:", markup=False
    )
    typer.echo(made["token"])


@audit.callback()
def list_records(
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    token_id: Annotated[
        str | None, typer.Option("--token", help="Only what was done with the token or session of this id.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Only at this service.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only done, refused, invalid or failed.")] = None,
    since: Annotated[str | None, typer.Option(help="How far back, such as 10m or 2d; or a date-time.")] = None,
    until: Annotated[str | None, typer.Option(help="Where to stop, in the same way.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most, the newest ones.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """Show who did what, the newest first."""
    with Api.find() as api:
        rows: list[dict[str, Any]] = api.get(
            "/api/auth/audit/",
            user=user,
            token=token_id,
            service=service,
            outcome=outcome,
            since=instant(since),
            until=instant(until),
            limit=limit,
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["When", "Who", "Token", "From", "What", "Object", "Outcome"],
        [
            (
                row["at"],
                row["user"] or "?",
                row["token_id"],
                row["source"],
                f"{row['service']}: {row['method']} {row['route']}" if row["action"] == "request" else row["action"],
                row["key"],
                row["outcome"] if row["status"] is None else f"{row['outcome']} ({row['status']})",
            )
            for row in rows
        ],
    )


def instant(text: str | None) -> str | None:
    """Turn an age such as ``10m`` into the instant of then; a date-time without a zone is one of this machine's.

    Raises
    ------
    Failure
        It is neither.
    """
    from sluice_core.settings import parse_duration

    if text is None:
        return None
    try:
        past = parse_duration(text)
        assert isinstance(past, timedelta)
        return (datetime.now(UTC) - past).isoformat()
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):
        raise Failure(f"{text!r} is neither an age, such as 10m or 2d, nor a date-time") from None
