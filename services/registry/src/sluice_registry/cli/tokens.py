"""``sluice token``, ``sluice key`` and ``sluice whoami``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from sluice_core.cli import Api, AsJson, Failure, Refusal, console, print_json, print_table

__all__ = ["USERS", "key", "pages", "token", "whoami"]

TOKENS, USERS = "/api/auth/tokens/", "/api/auth/users/"
DEFAULT_ROLE = "agent"
PAGE = 1000
MAX_LENGTH = 8192
"""Of a token, in bytes; a longer one is looked at by no service."""

token = typer.Typer(help="Tokens of programs and people.", no_args_is_help=True)
key = typer.Typer(help="Keys that sign tokens.", no_args_is_help=True)
whoami = typer.Typer(help="Who one is, and what one may.", invoke_without_command=True, no_args_is_help=False)

Roles = Annotated[list[str] | None, typer.Option("--role", help="Role that it gets; may be repeated.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="Single right beyond its roles; may be repeated.", show_default=False),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace", help="Only rows of this namespace may be written; may be repeated.", show_default="all"
    ),
]


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Its user; or what it is called, beside --subject.")],
    subject: Annotated[str | None, typer.Option(help="User name that it speaks for.", show_default="the name")] = None,
    create_user: Annotated[
        bool, typer.Option("--create-user", help="Make the user too, without a password, unless there is one.")
    ] = False,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="Role that it gets; may be repeated.", show_default=f"those of the user, else {DEFAULT_ROLE}"
        ),
    ] = None,
    scope: Scopes = None,
    namespace: Namespaces = None,
    expires: Annotated[
        str | None, typer.Option(help="Life, such as 12h or 90d.", show_default="as the platform says")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once. What was made before stays valid.

    With --scope and without a role it is a token of a program, which needs no user.
    """
    username = subject or name
    with Api.find() as api:
        roles = role or []
        if role or not scope or create_user:
            user = _user(api, username, role or [DEFAULT_ROLE] if create_user else None)
            roles = role or ([] if scope else user["roles"] or [DEFAULT_ROLE])
        body = {"name": name, "subject": username, "roles": roles, "scopes": scope or [], "namespaces": namespace}
        made = api.post(TOKENS, {**body, "expires_in": expires})
    if as_json:
        print_json(made)
        return
    may = ", ".join([*made["roles"], *made["scopes"]])
    only = f" in {', '.join(made['namespaces'])}" if made["namespaces"] else ""
    console(stderr=True).print(
        f"Token of {made['subject']} ({may}{only}), valid until {made['expires_at']}. It is shown this once:",
        markup=False,
    )
    typer.echo(made["token"])


@token.command("list")
def list_tokens(
    subject: Annotated[str | None, typer.Option(help="Only tokens of this user name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were revoked or have expired.")] = False,
    sessions: Annotated[bool, typer.Option("--sessions", help="Sessions of browsers instead of tokens.")] = False,
    as_json: AsJson = False,
) -> None:
    """List tokens, the newest first; the tokens themselves are shown to nobody."""
    with Api.find() as api:
        narrowed = {"subject": subject, "active": None if everything else "true"}
        rows = list(pages(api, TOKENS, "id", kind="session" if sessions else None, **narrowed))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["Id", "Name", "User", "May", "Namespaces", "Made", "Until", "Revoked"],
        [
            (
                row["id"],
                row["name"],
                row["subject"],
                " ".join([*row["roles"], *row["scopes"]]),
                "all" if row["namespaces"] is None else " ".join(row["namespaces"]),
                row["created_at"][:19],
                "for ever" if row["expires_at"] is None else row["expires_at"][:19],
                (row["revoked_at"] or "")[:19],
            )
            for row in rows
        ],
    )


@token.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `token list` shows them.")],
    as_json: AsJson = False,
) -> None:
    """Make tokens or sessions worthless, everywhere and at once."""
    with Api.find() as api:
        for each in ids:
            api.delete(f"{TOKENS}{quote(each, safe='')}/")
            if not as_json:
                typer.echo(f"{each} is revoked")
    if as_json:
        print_json({"revoked": ids})


@token.command("import")
def import_tokens(
    file: Annotated[Path, typer.Argument(help="One token a line; - for the standard input.", allow_dash=True)],
    role: Roles = None,
    scope: Scopes = None,
    namespace: Namespaces = None,
    as_json: AsJson = False,
) -> None:
    """Take over opaque tokens of an older system, so that its clients go on with theirs.

    A line is `USERNAME TOKEN`, or a JSON object with `username` and `token` (or `sha256`), and optionally `name`,
    `roles`, `scopes`, `namespaces` and `expires_at`, which win over the options. Tokens are hashed here and sent to
    nobody. It can be repeated: what is there already stays as it is.
    """
    common = {"roles": role or ([] if scope else [DEFAULT_ROLE]), "scopes": scope or [], "namespaces": namespace}
    tokens = [_old_token(number, line, common) for number, line in _lines(file)]
    done = {"imported": 0, "present": 0}
    with Api.find() as api:
        for start in range(0, len(tokens), PAGE):
            part = api.post(f"{TOKENS}import/", tokens[start : start + PAGE])
            done = {name: done[name] + part[name] for name in done}
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{done['imported']} imported, {done['present']} were there")


@key.command()
def rotate(as_json: AsJson = False) -> None:
    """Make a key that signs from soon on; tokens of the old one stay good until they expire."""
    with Api.find() as api:
        made = api.post("/api/auth/keys/rotate")
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{made['kid']} signs from {made['not_before']} on")


@whoami.callback()
def show(as_json: AsJson = False) -> None:
    """Show whose token is used, and what it may."""
    with Api.find() as api:
        found = api.get("/api/auth/whoami")
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['subject']} may: {' '.join(found['scopes']) or 'nothing but read'}")
    if found["namespaces"] is not None:
        typer.echo(f"in the namespaces {' '.join(found['namespaces'])} only")


def _user(api: Api, username: str, make_with: list[str] | None) -> dict[str, Any]:
    """Return a user; make him when he is absent and roles are given.

    Raises
    ------
    Refusal
        There is none.
    """
    path = f"{USERS}{quote(username, safe='')}/"
    try:
        found: dict[str, Any] = api.get(path)
    except Refusal as exc:
        if exc.status != 404:
            raise
        if make_with is None:
            text = f'User "{username}" does not exist. Use --create-user to create it.'
            raise Refusal(text, exc.status, exc.body) from None
        found = api.post(USERS, {"username": username, "roles": make_with})
        console(stderr=True).print(f'User "{username}" not found. Creating new user.', markup=False, highlight=False)
    return found


def pages(api: Api, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Yield all rows of a list that comes in pages."""
    after = None
    while True:
        rows = api.get(path, limit=PAGE, after=after, **query)
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1][key]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise Failure(f"{file} cannot be read: {reason}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if (line := line.strip()) and not line.startswith("#"):
            yield number, line


def _old_token(number: int, line: str, common: dict[str, Any]) -> dict[str, Any]:
    """Read one line; a refusal names the line and never shows it, since it may hold a token."""
    from sluice_core.auth.keyring import digest

    if line.startswith("{"):
        try:
            said = json.loads(line)
        except ValueError:
            raise Failure(f"line {number} is no JSON") from None
    else:
        words = line.split()
        if len(words) != 2:
            raise Failure(f"line {number} is neither `USERNAME TOKEN` nor a JSON object")
        said = dict(zip(("username", "token"), words, strict=True))
    if unknown := sorted(said.keys() - {"username", "token", "sha256", "name", "expires_at", *common}):
        raise Failure(f"line {number} has keys that mean nothing: {', '.join(unknown)}")
    opaque, known = said.pop("token", None), said.pop("sha256", None)
    if (opaque is None) == (known is None) or "username" not in said:
        raise Failure(f"line {number} needs a username, and either a token or its sha256")
    if known is None:
        usable = (
            isinstance(opaque, str) and opaque.isascii() and opaque.split() == [opaque] and len(opaque) <= MAX_LENGTH
        )
        if not usable:
            raise Failure(f"line {number}: a token is 1 to {MAX_LENGTH} ASCII characters without white space")
        known = digest(opaque)
    return {**common, "subject": said.pop("username"), "sha256": known, **said}
