"""``sluice agents``."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Failure, console, print_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["commands"]

REFRESH = 2.0
COLOURS = {"OK": "green", "WARNING": "yellow", "ERROR": "red", "EXITED": "bright_black"}

commands = typer.Typer(help="Agents and their last heartbeats.", invoke_without_command=True, no_args_is_help=False)


@commands.callback()
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
