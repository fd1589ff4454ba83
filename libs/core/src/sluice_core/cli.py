"""What the commands of all packages share: where the platform is, how to ask it, how to print what it says.

Exit codes: 0 done; 1 the platform refused; 2 it could not be asked (usage, address, ports, files).
"""

import json
import os
import random
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, Self

import typer

if TYPE_CHECKING:
    import httpx2
    from rich.console import Console

__all__ = [
    "Api",
    "AsJson",
    "Event",
    "Failure",
    "Refusal",
    "console",
    "data_directory",
    "instant",
    "print_json",
    "print_table",
]

UP_FILE = "up.json"
TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name
TIMEOUT = 30.0

# Seconds without a byte of an event stream, which has a heartbeat every 30, until it is asked for anew.
SILENCE = 75.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
# What a platform that is just being started anew answers.
AWAY = (502, 503, 504)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
"""The option ``--json``, which every command has."""


class Event(NamedTuple):
    """One event of an event stream."""

    name: str
    data: str
    id: str


class Failure(Exception):
    """A command cannot do its work; the message is one sentence for a person."""

    code = 2


class Refusal(Failure):
    """The platform answered that it will not.

    Attributes
    ----------
    status
        HTTP status.
    body
        What it said.
    """

    code = 1

    def __init__(self, message: str, status: int, body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


def data_directory(given: Path | None = None) -> Path:
    """Return where the local platform keeps its data: ``--data``, else ``SLUICE_DATA``, else below the home."""
    if given is not None:
        return given.expanduser().absolute()
    if named := os.environ.get("SLUICE_DATA"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "sluice"


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console; made when needed, since importing rich takes longer than most commands."""
    from rich.console import Console

    made = Console(stderr=stderr, soft_wrap=True)
    if not made.is_terminal:
        made.width = 200  # a pipe has no edge to wrap at
    return made


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows as a table; texts are shown as they are, never as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    console().print(table)


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


class Api:
    """A client of the platform's HTTP API; a context manager, which closes its connections.

    Parameters
    ----------
    url
        Base URL, prefix included.
    token
        Sent as ``Authorization: Bearer``.
    ca
        PEM file with further roots, for https.
    """

    def __init__(self, url: str, token: str | None = None, ca: Path | None = None) -> None:
        import httpx2

        self.url = url.rstrip("/")
        verify: ssl.SSLContext | bool = True
        if ca is not None and self.url.startswith("https:"):
            verify = ssl.create_default_context(cafile=ca)
        headers = {
            "Accept": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._http = httpx2.Client(headers=headers, timeout=TIMEOUT, verify=verify, trust_env=not _is_local(self.url))

    @classmethod
    def find(cls, data: Path | None = None) -> Self:
        """Return a client of the platform that is meant.

        That is ``SLUICE_URL`` with ``SLUICE_TOKEN``; without them the local ``sluice up`` and its admin token.

        Raises
        ------
        Failure
            There is neither.
        """
        token = os.environ.get("SLUICE_TOKEN")
        bundle = os.environ.get("REQUESTS_CA_BUNDLE")
        if url := os.environ.get("SLUICE_URL"):
            return cls(url, token, Path(bundle) if bundle else None)
        directory = data_directory(data)
        found = local(directory)
        if found is None:
            raise Failure(f"no `sluice up` runs with its data in {directory}: start one, or set SLUICE_URL")
        if token is None:
            try:
                token = (directory / TOKEN_FILE).read_text(encoding="utf-8").strip()
            except OSError:
                token = None
        return cls(found["http"], token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Ask for a path of the API; return the decoded answer."""
        return self.request("GET", path, query={key: value for key, value in query.items() if value is not None})

    def text(self, path: str, **query: Any) -> str:
        """Ask for a path that answers a text."""
        return self._ask("GET", path, query, None).text

    def post(self, path: str, body: Any = None) -> Any:
        """Send a JSON body; return the decoded answer."""
        return self.request("POST", path, body=body)

    def delete(self, path: str) -> Any:
        """Delete what a path names."""
        return self.request("DELETE", path)

    def follow(self, path: str, *, after: str | None = None, **query: Any) -> Iterator[Event]:
        """Follow an event stream for ever, without heartbeats; it goes on where it was when the connection breaks.

        Parameters
        ----------
        after
            Id of the event after which to begin.

        Raises
        ------
        Refusal
            The platform will not show it.
        Failure
            There is no answer to the first request.
        """
        import httpx2

        given = {key: value for key, value in query.items() if value is not None}
        timeout = httpx2.Timeout(TIMEOUT, read=SILENCE)
        delay, connected = FIRST_DELAY, False
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
            try:
                with self._http.stream("GET", self.url + path, params=given, headers=headers, timeout=timeout) as reply:
                    if reply.status_code in AWAY and connected:
                        raise httpx2.TransportError(f"{reply.status_code}")
                    if not reply.is_success:
                        reply.read()
                        _refuse("GET", path, reply)
                    delay, connected = FIRST_DELAY, True
                    for event in _events(reply.iter_bytes()):
                        after = event.id or after
                        if event.name != "heartbeat":
                            yield event
            except httpx2.HTTPError as exc:
                if not connected:
                    raise Failure(f"{self.url} does not answer: {exc}") from exc
            time.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, LONGEST_DELAY)

    def request(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Make a request.

        Returns
        -------
        Any
            Decoded JSON; None for an empty answer.

        Raises
        ------
        Refusal
            The answer is no success.
        Failure
            There is no answer.
        """
        reply = self._ask(method, path, query, body)
        try:
            return reply.json() if reply.content else None
        except ValueError as exc:
            raise Failure(f"{self.url}{path} does not answer like Sluice: no JSON") from exc

    def _ask(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any) -> "httpx2.Response":
        import httpx2

        try:
            reply = self._http.request(method, f"{self.url}{path}", params=query, json=body)
        except httpx2.HTTPError as exc:
            raise Failure(f"{self.url} does not answer: {exc}") from exc
        if not reply.is_success:
            _refuse(method, path, reply)
        return reply


def _events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Take an event stream apart."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for one in whole:
            fields: dict[str, list[str]] = {}
            for line in one.decode("utf-8", "replace").split("\n"):
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            if "data" in fields:
                yield Event(fields.get("event", ["message"])[-1], "\n".join(fields["data"]), fields.get("id", [""])[-1])


def local(directory: Path) -> dict[str, Any] | None:
    """Return what ``up.json`` says about the local platform, or None when none runs there."""
    try:
        found: dict[str, Any] = json.loads((directory / UP_FILE).read_text(encoding="utf-8"))
        os.kill(found["pids"]["sluice"], 0)
    except PermissionError:
        return found  # it runs, as somebody else
    except (OSError, ValueError, KeyError):
        return None
    return found


def _is_local(url: str) -> bool:
    # A proxy of the site does not lead back to this machine.
    return url.partition("://")[2].startswith(("localhost", "127.", "[::1]"))


def _refuse(method: str, path: str, reply: "httpx2.Response") -> NoReturn:
    try:
        body = reply.json()
    except ValueError:
        body = None
    said = _said(body) or reply.reason_phrase or "no reason given"
    raise Refusal(f"{method} {path}: {reply.status_code}: {said}", reply.status_code, body)


def _said(body: Any) -> str:
    """Put an error body of any of the platform's shapes in one line."""
    if isinstance(body, dict):
        if body.get("errors"):
            return "; ".join(f"{each['field']}: {each['message']}" for each in body["errors"])
        for key in ("detail", "error"):
            if isinstance(body.get(key), str):
                return str(body[key])
        return "; ".join(f"{key}: {' '.join(map(str, v)) if isinstance(v, list) else v}" for key, v in body.items())
    return ""
