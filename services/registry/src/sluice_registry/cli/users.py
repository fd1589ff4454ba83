"""``sluice user`` and ``sluice role``."""

import sys
from getpass import getpass
from typing import Annotated, Any
from urllib.parse import quote

import typer

from sluice_core.cli import Api, AsJson, Failure, print_json, print_table
from sluice_registry.cli.tokens import USERS, pages

__all__ = ["role", "user"]

user = typer.Typer(help="Users, who log in by a password and have tokens.", no_args_is_help=True)
role = typer.Typer(help="Roles, and what they grant.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="User name.")]


@user.command()
def add(
    name: Name,
    email: Annotated[str, typer.Option(help="Address.", show_default=False)] = "",
    roles: Annotated[list[str] | None, typer.Option("--role", help="Role that he gets; may be repeated.")] = None,
    password: Annotated[
        bool,
        typer.Option(
            "--password", help="Ask for a password; without a terminal, the first line of the standard input."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user; without a password he can have tokens, and cannot log in."""
    body = {"username": name, "email": email, "roles": roles or [], "password": _password() if password else None}
    with Api.find() as api:
        made = api.post(USERS, body)
    _show(made, as_json, f"{name} is a user")


@user.command()
def passwd(name: Name, as_json: AsJson = False) -> None:
    """Set a password, asked for; without a terminal, the first line of the standard input. Ends his sessions."""
    _change(name, as_json, f"{name} has a new password", password=_password())


@user.command()
def roles(
    name: Name,
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]...", help="All roles that he shall have.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all roles away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set the roles of a user, or show them. New ones end his sessions; tokens keep theirs."""
    if none and roles:
        raise Failure("name roles or say --none, not both")
    if roles or none:
        _change(name, as_json, f"{name} has {' '.join(roles or []) or 'no role'}", roles=roles or [])
        return
    with Api.find() as api:
        found = api.get(_path(name))
    _show(found, as_json, " ".join(found["roles"]))


@user.command()
def disable(name: Name, as_json: AsJson = False) -> None:
    """Switch a user off: his tokens and sessions are worthless at once, for good."""
    _change(name, as_json, f"{name} is switched off", is_active=False)


@user.command()
def enable(name: Name, as_json: AsJson = False) -> None:
    """Switch a user on again; he needs new tokens."""
    _change(name, as_json, f"{name} is switched on", is_active=True)


@user.command()
def unbind(name: Name) -> None:
    """Part a user from his account of the facility, which was made anew; ends his sessions."""
    with Api.find() as api:
        api.delete(f"{_path(name)}facility/")
    typer.echo(f"{name} belongs to no account of the facility")


@user.command("list")
def list_users(
    role: Annotated[str | None, typer.Option(help="Only users with this role.")] = None, as_json: AsJson = False
) -> None:
    """List users by name."""
    with Api.find() as api:
        rows = list(pages(api, USERS, "username", role=role))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["User", "Roles", "Active", "Address", "Made", "Last login"],
        [
            (
                row["username"],
                " ".join(row["roles"]),
                "yes" if row["is_active"] else "no",
                row["email"],
                row["created_at"][:19],
                (row["last_login"] or "never")[:19],
            )
            for row in rows
        ],
    )


@role.command("list")
def list_roles(as_json: AsJson = False) -> None:
    """List roles and the rights that they grant."""
    with Api.find() as api:
        found = api.get("/api/auth/roles/")
    if as_json:
        print_json(found)
        return
    rows = [
        (each["name"] if first else "", scope["name"], scope["description"])
        for each in found
        for first, scope in zip([True, *[False] * len(each["scopes"])], each["scopes"], strict=False)
    ]
    print_table(["Role", "Right", "What it is"], rows)


def _path(name: str) -> str:
    return f"{USERS}{quote(name, safe='')}/"


def _change(name: str, as_json: bool, said: str, **changes: Any) -> None:
    with Api.find() as api:
        found = api.request("PATCH", _path(name), body=changes)
    _show(found, as_json, said)


def _show(found: dict[str, Any], as_json: bool, said: str) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(said)


def _password() -> str:
    """Ask for a new password; never an argument, which every process of the machine can read."""
    if not _is_terminal():
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise Failure("there is no password on the standard input")
        return password
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise Failure("the two are not the same")
    return password


def _is_terminal() -> bool:
    return sys.stdin.isatty()
