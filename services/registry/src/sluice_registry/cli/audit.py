"""``sluice audit``."""

from typing import Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, instant, print_json, print_table

__all__ = ["commands"]

commands = typer.Typer(help="Who did what.", invoke_without_command=True, no_args_is_help=False)


@commands.callback()
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
