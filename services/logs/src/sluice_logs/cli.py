"""``sluice logs``."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Failure, console, instant, print_json

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["commands"]

LOGS = "/api/logs/"
COLOURS = {0: "bright_black", 10: "bright_black", 20: "", 30: "yellow", 40: "red", 50: "bold red"}
# Records that are remembered, so that none is shown twice where the list and the stream overlap.
SEEN = 10_000
# What a terminal would obey. Anybody may send records, so their texts are shown and never carried out.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

commands = typer.Typer(help="Log records of all programs.", invoke_without_command=True, no_args_is_help=False)


@commands.callback()
def list_records(
    app: Annotated[str | None, typer.Option(help="Only of this app.")] = None,
    instance: Annotated[str | None, typer.Option(help="Only of this instance.")] = None,
    level: Annotated[str | None, typer.Option(help="This level and what is more severe, such as WARNING.")] = None,
    grep: Annotated[str | None, typer.Option(help='Words of the message; also "a phrase", `or`, and -without.')] = None,
    since: Annotated[str | None, typer.Option(help="How far back, such as 10m or 2d; or a date-time.")] = None,
    until: Annotated[str | None, typer.Option(help="Where to stop, in the same way.")] = None,
    execution: Annotated[str | None, typer.Option(help="Only of this workflow execution.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    user: Annotated[str | None, typer.Option(help="Only of this user's programs.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the newest ones.", min=1, max=10_000)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show log records, the newest last."""
    if follow and until is not None:
        raise Failure("--follow goes on for ever, --until ends: leave one of them out")
    wanted = {
        "app_name": app,
        "instance_name": instance,
        "level__gte": level,
        "search": grep,
        "end_time": instant(until),
        "execution_id": execution,
        "run_id": run,
        "username": user,
    }
    begin = instant(since)
    with Api.find() as api:
        if not follow:
            rows = newest(api, wanted, begin, limit)
            if as_json:
                print_json(rows)
            else:
                show(rows, as_json=False)
            return
        try:
            show(following(api, wanted, begin, limit), as_json=as_json)
        except KeyboardInterrupt:
            return


def newest(api: Api, wanted: dict[str, Any], begin: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the newest records, in the order in which they happened."""
    found: list[dict[str, Any]] = api.get(LOGS, **wanted, start_time=begin, limit=limit)["results"]
    return found[::-1]


def following(api: Api, wanted: dict[str, Any], begin: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the newest records and then what comes; after a break, what came meanwhile."""
    seen: dict[int, None] = {}
    for event in api.follow(f"{LOGS}tail/", **wanted, start_time=begin):
        rows = []
        if event.name == "connected":
            # The stream is open before the list is read, so nothing comes between them.
            rows = missed(api, wanted, begin, SEEN) if seen else newest(api, wanted, begin, limit)
        elif event.name == "dropped":
            count = json.loads(event.data)["count"]
            console(stderr=True).print(f"{count} records came too fast to be shown", style="yellow")
        elif event.name == "log":
            rows = [json.loads(event.data)]
        for row in rows:
            if row["id"] not in seen:
                seen[row["id"]] = None
                if len(seen) > SEEN:
                    del seen[next(iter(seen))]
                begin = max(begin or row["timestamp"], row["timestamp"], key=datetime.fromisoformat)
                yield row


def missed(api: Api, wanted: dict[str, Any], begin: str | None, limit: int) -> list[dict[str, Any]]:
    """Return what came while the stream was broken; nothing when it breaks again, as then it is asked once more."""
    try:
        return newest(api, wanted, begin, limit)
    except Failure:
        return []


def show(rows: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    """Print records as they come: a line each, for people or as JSON."""
    out = console()
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        else:
            out.print(line(row))


def line(row: dict[str, Any]) -> "Text":
    """Return a record as a line of text; nothing in it is read as markup or obeyed by a terminal."""
    from rich.text import Text

    at = datetime.fromisoformat(row["timestamp"]).astimezone()
    text = Text(f"{at:%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} ", "bright_black")
    colour = COLOURS.get(row["level"], "")
    text.append(f"{plain(row['levelname']):8} ", colour)
    text.append(f"{plain(row['instance_name'])} ", "cyan")
    text.append(plain(row["message"]), colour)
    text.append(f"  {plain(row['module'])}:{plain(row['funcname'])}:{row['lineno']}", "bright_black")
    return text


def plain(text: str) -> str:
    """Write control characters out."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
