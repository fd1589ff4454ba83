"""The command ``sluice``. What takes long to import is imported by the command that needs it."""

import os
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sluice.starting import without_garbage_collection
from sluice_core.cli import AsJson, Failure, data_directory, print_json, print_table

__all__ = ["app", "main"]

app = typer.Typer(
    name="sluice",
    help="Services for streaming workflows of physics experiments.",
    no_args_is_help=True,
    # Frames of a traceback would show tokens and passwords.
    pretty_exceptions_enable=False,
)


def _port(text: str) -> Any:
    return typer.Option(help=text, min=0, max=65535)


Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data directory (default: SLUICE_DATA, else ~/.local/share/sluice).", show_default=False
    ),
]


@app.command()
def up(
    data: Data = None,
    http: Annotated[int, _port("Port of plain HTTP; 0: any that is free.")] = 8002,
    https: Annotated[int, _port("Port of TLS.")] = 8443,
    admin: Annotated[int, _port("Port of readiness and metrics, on 127.0.0.1 only.")] = 8004,
    nats_port: Annotated[int, _port("Port of the nats-server that is started, on 127.0.0.1 only.")] = 4222,
    stomp: Annotated[
        int | None,
        typer.Option(
            help="Port where agents find a STOMP broker (default: 61613, and none where ACTIVEMQ_HOST names another "
            "broker).",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    stomp_tls: Annotated[
        int | None, typer.Option(help="The same with TLS, such as 61612.", min=0, max=65535, show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address of HTTP, HTTPS and STOMP.")] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM) instead of a self-signed one.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    postgres: Annotated[
        str | None,
        typer.Option(
            envvar="SLUICE_UP_POSTGRES",
            help="Admin URL of a PostgreSQL to use; databases and roles are created there.",
        ),
    ] = None,
    nats: Annotated[
        str | None,
        typer.Option(envvar="SLUICE_UP_NATS", help="URL of a NATS server to use, with user and password."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="SERVICE", help="Only this service; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole platform in one process, with a PostgreSQL and a nats-server of its own."""
    with without_garbage_collection():
        from sluice.up import Options, run

    run(
        Options(
            data=data_directory(data),
            host=host,
            http=http,
            https=https,
            admin=admin,
            nats_port=nats_port,
            stomp=stomp,
            stomp_tls=stomp_tls,
            tls_cert=tls_cert,
            tls_key=tls_key,
            postgres=postgres,
            nats=nats,
            only=only or (),
            as_json=as_json,
        )
    )
    _end(0)


@app.command()
def serve(
    service: Annotated[str, typer.Argument(help="Its name, such as registry.")],
    http: Annotated[int, _port("Port; 0: any that is free, told by the log line `ready`.")] = 8000,
    admin: Annotated[int, _port("Port of /healthz, /readyz and /metrics.")] = 9000,
    host: Annotated[str, typer.Option(help="Address of both.")] = "0.0.0.0",  # noqa: S104 - a container's only one
) -> None:
    """Run one service, as in a container; the environment says the rest."""
    with without_garbage_collection():
        from sluice.alone import run

    run(service, host=host, http=http, admin=admin)
    _end(0)


@app.command()
def migrate(
    service: Annotated[list[str] | None, typer.Option(metavar="SERVICE", help="Only this one; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring databases to this release (SLUICE_<SERVICE>_DATABASE_URL says where they are)."""
    from sluice.migrate import migrate_all

    done = migrate_all(service)
    if as_json:
        print_json(done)
    else:
        for name in done:
            typer.echo(f"{name}: the database is current")


@app.command()
def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show where the local platform is and whether its services are ready; exit code 1 when one is not."""
    from sluice.environment import local_facts
    from sluice_core.cli import Api, Refusal

    facts = local_facts(data)
    try:
        report = Api(facts["admin"]).get("/readyz")
    except Refusal as exc:
        if exc.status != 503:
            raise
        report = exc.body
    if as_json:
        print_json({**facts, **report})
    else:
        shown = ("http", "https", "admin", "nats", "stomp", "stomp_tls", "data")
        print_table(["what", "where"], [(key, facts[key]) for key in shown if key in facts])
        rows = [
            (name, each["status"], "; ".join(f"{k}: {c['detail']}" for k, c in each["checks"].items() if not c["ok"]))
            for name, each in report["services"].items()
        ]
        print_table(["service", "status", "reason"], rows)
    if report["status"] != "ready":
        raise typer.Exit(1)


@app.command()
def env(data: Data = None, as_json: AsJson = False) -> None:
    """Print the variables that agents and other clients read: eval "$(sluice env)"."""
    from sluice.environment import variables

    found = variables(data)
    if as_json:
        print_json(found)
    else:
        for name, value in found.items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def openapi(
    directory: Annotated[Path, typer.Option("--directory", help="Where the documents of the services are.")] = Path(
        "docs/openapi"
    ),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 when a file is stale.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the OpenAPI documents of all installed services from their code."""
    from sluice import documents
    from sluice.services import chosen

    files = documents.render(chosen(None), directory)
    changed = documents.stale(files) if check else documents.write(files)
    if as_json:
        print_json([str(path) for path in changed])
    else:
        for path in changed:
            typer.echo(f"{path} {'is stale' if check else 'written'}")
    if check and changed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line, with the commands that services bring."""
    own = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    if wanted not in own:
        for entry in sorted(entry_points(group="sluice.commands")):
            app.add_typer(entry.load(), name=entry.name)
    try:
        app()
    except Failure as exc:
        sys.stderr.write(f"sluice: {exc}\n")
        _end(exc.code)


def _end(code: int) -> NoReturn:
    """End the process at once; a thread that waits for a dead database must not hold it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
