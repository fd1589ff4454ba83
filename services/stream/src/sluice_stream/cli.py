"""``sluice dlq``, ``sluice messages`` and ``sluice stomp``."""

import json
import sys
from typing import Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Failure, Refusal, print_json, print_table
from sluice_stream.tail import tail

__all__ = ["dlq", "messages", "stomp"]

PATH = "/api/dlq/"
PAGE = 1000

dlq = typer.Typer(help="Dead letters: what could not be processed.", no_args_is_help=True)
messages = typer.Typer(no_args_is_help=True)
stomp = typer.Typer(invoke_without_command=True)

Stream = Annotated[str | None, typer.Option(help="Only of this stream.")]
Reason = Annotated[str | None, typer.Option(help="Only with these words in the reason.")]
Older = Annotated[str | None, typer.Option(help="Only of at least this age, such as 1h.")]
Younger = Annotated[str | None, typer.Option(help="Only of at most this age.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters.", show_default=False)]


@dlq.command("list")
def list_letters(
    stream: Stream = None,
    reason: Reason = None,
    older: Older = None,
    younger: Younger = None,
    limit: Annotated[int, typer.Option(help="How many at most, the newest ones.", min=1, max=PAGE)] = 100,
    as_json: AsJson = False,
) -> None:
    """Show dead letters, the newest first."""
    with Api.find() as api:
        rows = api.get(PATH, stream=stream, reason=reason, older=older, younger=younger, limit=limit)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["Id", "When", "Stream", "Subject", "Bytes", "Reason"],
        [(row["id"], row["at"], row["stream"], row["subject"], row["size"], row["reason"]) for row in rows],
    )


@dlq.command()
def show(letter: Annotated[str, typer.Argument(help="Id of a letter.")], as_json: AsJson = False) -> None:
    """Show one dead letter with what is in it."""
    with Api.find() as api:
        row: dict[str, Any] = api.get(_path(letter))
    if as_json:
        print_json(row)
        return
    data = row.pop("data")
    headers = row.pop("headers")
    print_table(["", ""], [*row.items(), *((f"header {name}", value) for name, value in headers.items())])
    typer.echo(data)


@dlq.command()
def replay(
    letters: Ids = None,
    every: Annotated[bool, typer.Option("--all", help="All that the options choose, the oldest first.")] = False,
    stream: Stream = None,
    reason: Reason = None,
    older: Older = None,
    younger: Younger = None,
    limit: Annotated[int, typer.Option(help="How many at most with --all.", min=1, max=PAGE)] = 100,
) -> None:
    """Send dead letters again to where they were; those that are named, or with --all those that are chosen."""
    if bool(letters) == every:
        raise Failure("name letters, or say --all")
    with Api.find() as api:
        if letters:
            _each(letters, lambda letter: api.post(f"{_path(letter)}replay/"), "sent again")
            return
        chosen = {"stream": stream, "reason": reason, "older": older, "younger": younger, "limit": limit}
        done = api.post(f"{PATH}replay/", {name: value for name, value in chosen.items() if value is not None})
    typer.echo(f"{done['replayed']} sent again")
    for letter, why in done["refused"].items():
        typer.echo(f"{letter} stays: {why}", err=True)
    if done["refused"]:
        raise typer.Exit(1)


@dlq.command()
def delete(letters: Annotated[list[str], typer.Argument(help="Ids of letters.")]) -> None:
    """Drop dead letters."""
    with Api.find() as api:
        _each(letters, lambda letter: api.delete(_path(letter)), "dropped")


messages.command()(tail)


@stomp.callback()
def show_stomp(as_json: AsJson = False) -> None:
    """Show the STOMP door: its clients, its destinations, and what waits there."""
    with Api.find() as api:
        found: dict[str, Any] = api.get("/api/stomp/")
    if as_json:
        print_json(found)
        return
    ports = ", ".join(map(str, found["ports"])) or "none"
    typer.echo(f"ports: {ports}" if found["active"] else "this process does not have the door; it knows no clients")
    print_table(
        ["Client", "User", "From", "Since", "Version", "In", "Out", "Unread", "Listens to"],
        [
            (
                each["client_id"],
                each["user"],
                each["address"],
                each["since"],
                each["version"],
                each["received"],
                each["sent"],
                each["unread"],
                " ".join(subscription["destination"] for subscription in each["subscriptions"]),
            )
            for each in found["connections"]
        ],
    )
    print_table(
        ["Destination", "Namespace", "Waiting", "Unacknowledged", "Subscribers"],
        [
            (each["destination"], each["namespace"], each["waiting"], each["unacknowledged"], each["subscribers"])
            for each in found["destinations"]
        ],
    )
    if found["durables"]:
        print_table(
            ["Durable of", "Name", "Destination", "Waiting", "Subscribed"],
            [
                (each["client_id"], each["name"], each["destination"], each["waiting"], each["subscribed"])
                for each in found["durables"]
            ],
        )


@messages.command()
def send(
    message: Annotated[str, typer.Argument(help="A JSON object; - reads it from standard input.")],
    to: Annotated[str | None, typer.Option(help="Such as /topic/epictopic, which is what there is by default.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="NAME=VALUE for the broker; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a message; it is stored when this ends."""
    try:
        content = json.loads(sys.stdin.read() if message == "-" else message)
    except (ValueError, RecursionError) as exc:
        raise Failure(f"that is no JSON: {exc}") from None
    if not isinstance(content, dict):
        raise Failure("a message is a JSON object")
    body: dict[str, Any] = {"message": content, "headers": dict(map(_header, header or ()))}
    if to is not None:
        body["destination"] = to
    with Api.find() as api:
        sent = api.post("/api/messages/", body)
    if as_json:
        print_json(sent)
    else:
        typer.echo(f"{sent['id']} to {sent['destination']}")


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Failure(f"{text!r} is not NAME=VALUE")
    return name, value


def _path(letter: str) -> str:
    from uuid import UUID

    try:
        return f"{PATH}{UUID(letter)}/"
    except ValueError:
        raise Failure(f"{letter!r} is not the id of a letter") from None


def _each(letters: list[str], ask: Any, done: str) -> None:
    """Do it with each; what is refused does not keep the others."""
    failed = False
    for letter in letters:
        try:
            ask(letter)
        except Refusal as exc:
            failed = True
            typer.echo(f"{letter}: {exc}", err=True)
        else:
            typer.echo(f"{letter} {done}")
    if failed:
        raise typer.Exit(1)
