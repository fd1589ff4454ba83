"""How commands show tables that may change while somebody looks."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_core.cli import Failure, console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Watch", "clock", "duration", "show", "table"]

REFRESH = 2.0

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")]


def show(read: Callable[[], Any], draw: Callable[[Any], "RenderableType"], *, watch: bool, as_json: bool) -> None:
    """Show what is read: once, again and again, or as JSON.

    Raises
    ------
    Failure
        It cannot be read, or was to be watched as JSON. While it is watched, what cannot be read stays as it was.
    """
    if watch and as_json:
        raise Failure("--watch is for people, --json for programs: leave one of them out")
    if as_json:
        print_json(read())
        return
    if not watch:
        console().print(draw(read()))
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    shown = draw(read())
    with Live(shown, console=console(), auto_refresh=False) as live:
        try:
            while True:
                live.refresh()
                time.sleep(REFRESH)
                try:
                    shown = draw(read())
                    live.update(shown)
                except Failure as exc:
                    live.update(Group(shown, Text(str(exc))))
        except KeyboardInterrupt:
            return


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", empty: str = "") -> "Table":
    """Return rows as a table; texts are never read as markup."""
    from rich.table import Table
    from rich.text import Text

    found = Table(*columns, title=Text(title) if title else None, title_justify="left")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    if not rows and empty:
        found.caption = Text(empty)
    return found


def clock(text: str | None) -> str:
    """Return a time of the API as people read it, to the second."""
    return "" if text is None else datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def duration(began: str | None, ended: str | None) -> str:
    """Say how long something took; empty while it goes on."""
    if began is None or ended is None:
        return ""
    seconds = int((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds())
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{'-' if seconds < 0 else ''}{hours}:{minutes:02d}:{rest:02d}"
