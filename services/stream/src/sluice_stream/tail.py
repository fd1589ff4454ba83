"""``sluice messages tail``."""

import json
from typing import Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Event

__all__ = ["tail"]

PATH = "/api/messages/stream/"
SHOWN = ("msg_type", "sent_at", "sender", "sender_agent", "namespace", "run_id", "recipient_agent", "queue_name")

Values = Annotated[str | None, typer.Option(help="Only these; several with commas between them.")]


def tail(
    types: Values = None,
    agents: Values = None,
    runs: Values = None,
    namespace: Values = None,
    after: Annotated[
        str | None, typer.Option(help="Begin after the message with this id, which --json shows and the end tells.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show messages as they come, until Ctrl-C; goes on by itself when the platform was away."""
    last = after
    try:
        with Api.find() as api:
            for event in api.follow(
                PATH, after=after, msg_types=types, agents=agents, run_ids=runs, namespaces=namespace, extras="1"
            ):
                last = event.id or last
                if not _remark(event):
                    typer.echo(_line(event, as_json=as_json))
    except KeyboardInterrupt:
        if last:
            typer.echo(f"go on with --after {last}", err=True)


def _remark(event: Event) -> bool:
    """Say what is no message; for people, and apart from the messages."""
    if not event.id:
        if event.name == "dropped":
            typer.echo(f"{json.loads(event.data)['count']} messages came faster than they were shown", err=True)
            return True
        return False
    if event.name == "reset" and (reason := _reason(event)):
        typer.echo(f"messages before this are missing ({reason})", err=True)
        return True
    return event.name == "connected" and "client_id" in json.loads(event.data)


def _reason(event: Event) -> str | None:
    """Return why messages are missing; None for a message of that type."""
    data = json.loads(event.data)
    return str(data["reason"]) if list(data) == ["reason"] else None


def _line(event: Event, *, as_json: bool) -> str:
    data: dict[str, Any] = json.loads(event.data)
    if as_json:
        return json.dumps({"id": event.id, **data})
    sender = data.get("sender_agent") or data.get("processed_by") or "-"
    where = " ".join(f"{key}={data[key]}" for key in ("namespace", "run_id") if data.get(key) is not None)
    rest = {key: value for key, value in data.items() if key not in SHOWN}
    text = f"{data.get('sent_at', '')}  {event.name}  {sender}  {where}  {json.dumps(rest, ensure_ascii=False)}"
    # What others write must not command a terminal.
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
