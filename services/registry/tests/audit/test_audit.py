"""Who did what, from the request over NATS into the table (issue 4, part 5)."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest
import typer
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from sluice_core.audit import TYPE, Event, Record
from sluice_core.auth import digest
from sluice_core.bus import Message
from sluice_core.cli import Failure
from sluice_core.database import Database
from sluice_core.testing import NatsServer, eventually
from sluice_core.testing.serving import serving
from sluice_registry.cli import audit as audit_cli
from sluice_registry.consumer import AuditConsumer
from sluice_registry.service.audit import Audit

from ..conftest import MakeApp, Start

PATH = "/api/auth/audit/"
FIRST = "first-token-0123456789"
PASSWORD = "correct horse battery"
AGENTS = "/api/systemagents/"
BEAT = {"instance_name": "daq-1", "agent_type": "data", "status": "OK"}

Rows = list[dict[str, Any]]


class Platform:
    """A registry on a port, asked by its administrator unless somebody else is named."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, trust_env=False)

    def ask(self, method: str, path: str, token: str | None = FIRST, **request: Any) -> httpx2.Response:
        self.http.cookies.clear()
        headers = {**({"Authorization": f"Token {token}"} if token else {}), **request.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **request)

    def records(self, wanted: Callable[[Rows], object], **query: Any) -> Rows:
        """Wait until the records are as wanted; return them, the newest first."""

        def look() -> Rows | None:
            rows: Rows = self.ask("GET", PATH, params=query).json()
            return rows if wanted(rows) else None

        return cast(Rows, eventually(look))

    def record(self, **wanted: Any) -> dict[str, Any]:
        """Wait for the one record that has these values."""

        def matching(rows: Rows) -> Rows:
            return [row for row in rows if wanted.items() <= row.items()]

        (found,) = matching(self.records(matching))
        return found


@pytest.fixture
def platform(make_app: MakeApp, nats_server: NatsServer) -> Iterator[Platform]:
    with serving(make_app(nats_url=nats_server.url(), admin_token=SecretStr(FIRST))) as served:
        made = Platform(served.url)
        yield made
        made.http.close()


def test_a_change_is_told_with_who_what_and_whence(platform: Platform) -> None:
    before = datetime.now(UTC)
    agent = platform.ask("POST", AGENTS, json=BEAT, headers={"X-Request-Id": "my-request"}).json()
    token_id = platform.ask("GET", "/api/auth/whoami").json()["token_id"]
    made = platform.record(request_id="my-request")
    at = datetime.fromisoformat(made.pop("at"))
    assert before - timedelta(seconds=1) < at <= datetime.now(UTC)
    assert UUID(made.pop("id"))
    assert made == {
        "service": "registry",
        "action": "request",
        "user": "admin",
        "token_id": token_id,
        "method": "POST",
        "route": AGENTS,
        "key": str(agent["id"]),
        "outcome": "done",
        "status": 201,
        "request_id": "my-request",
        "source": "127.0.0.1",
        "detail": None,
    }
    platform.ask("PATCH", f"{AGENTS}{agent['id']}/", json={"status": "NONSENSE"})
    bad = platform.record(method="PATCH")
    assert (bad["route"], bad["key"], bad["outcome"]) == (f"{AGENTS}{{id}}/", made["key"], "invalid")


def test_heartbeats_and_reads_are_told_only_where_they_are_refused(platform: Platform) -> None:
    beat = f"{AGENTS}heartbeat/"
    assert platform.ask("POST", beat, json=BEAT).status_code == 201
    assert platform.ask("GET", AGENTS).status_code == 200
    assert platform.ask("POST", beat, token="forged", json=BEAT).status_code == 403
    assert platform.ask("GET", AGENTS, token="forged").status_code == 403
    assert platform.ask("POST", "/api/state/next-run-number/").status_code == 200
    rows = platform.records(lambda rows: len(rows) >= 5)
    told = {(row["method"], row["route"], row["outcome"], row["user"]) for row in rows}
    assert told == {
        ("POST", beat, "refused", ""),
        ("GET", AGENTS, "refused", ""),
        ("POST", "/api/state/next-run-number/", "done", "admin"),
        # At the start: the first key, the first token.
        ("", "", "done", "registry"),
    }


def test_what_concerns_identity_has_a_name_of_its_own(platform: Platform) -> None:
    user = {"username": "ada", "password": PASSWORD, "roles": ["reader"]}
    assert platform.ask("POST", "/api/auth/users/", json=user).status_code == 201
    made = platform.ask("POST", "/api/auth/tokens/", json={"name": "laptop", "subject": "ada"}).json()
    platform.ask("DELETE", f"/api/auth/tokens/{made['id']}/")
    platform.ask("PATCH", "/api/auth/users/ada/", json={"email": "ada@example.org"})
    platform.ask("POST", "/api/auth/keys/rotate")
    login = {"username": "ada", "password": PASSWORD}
    assert platform.ask("POST", "/api/auth/login", None, json={**login, "password": "wrong"}).status_code == 401
    assert platform.ask("POST", "/api/auth/login", None, json=login).status_code == 200
    rows = platform.records(lambda rows: len(rows) >= 9)
    told = {(row["action"], row["user"], row["outcome"], row["key"]) for row in rows if row["user"] != "registry"}
    assert [row["action"] for row in rows if row["user"] == "registry"] == ["token.imported", "key.created"]
    session = next(row["key"] for row in rows if row["action"] == "login" and row["outcome"] == "done")
    kid = next(row["key"] for row in rows if row["action"] == "key.rotated")
    assert kid
    assert told == {
        ("user.created", "admin", "done", "ada"),
        ("token.created", "admin", "done", made["id"]),
        ("token.revoked", "admin", "done", made["id"]),
        ("user.changed", "admin", "done", "ada"),
        ("key.rotated", "admin", "done", kid),
        ("login", "ada", "refused", ""),
        ("login", "ada", "done", session),
    }
    changed = platform.record(action="user.changed")
    assert changed["detail"] == {"changed": ["email"]}
    refused = {row["request_id"] for row in platform.records(bool, outcome="refused")}
    assert refused == {platform.record(action="login", outcome="refused")["request_id"]}


def test_what_concerns_identity_is_stored_before_it_is_answered(client: Any, tokens: Any, url: str) -> None:
    """There is no NATS here: what is told at once stands in the transaction of what it tells."""
    admin = tokens.header("admin")
    client.post("/api/auth/users/", json={"username": "ada", "password": PASSWORD}, headers=admin)
    made = client.post("/api/auth/tokens/", json={"name": "laptop", "subject": "ada"}, headers=admin).json()
    client.delete(f"/api/auth/tokens/{made['id']}/", headers=admin)
    client.patch("/api/auth/users/ada/", json={"roles": ["reader"]}, headers=admin)
    client.post("/api/auth/tokens/import/", json=[{"subject": "old", "sha256": digest("old")}], headers=admin)
    client.post("/api/auth/keys/rotate", headers=admin)
    client.post("/api/auth/login", json={"username": "ada", "password": "wrong"})
    opened = client.post("/api/auth/login", json={"username": "ada", "password": PASSWORD})
    assert opened.status_code == 200
    client.post("/api/auth/logout", headers={"X-CSRFToken": client.cookies["csrftoken"]})
    client.cookies.clear()
    client.get(AGENTS, headers={"Authorization": f"Basic {b64encode(b'ada:wrong').decode()}"})
    rows = client.get(PATH, headers=admin).json()[::-1]
    assert (rows[0]["action"], rows[0]["user"]) == ("key.created", "registry")
    told = [(row["action"], row["user"], row["outcome"], row["method"], row["route"]) for row in rows[1:]]
    tokens_path, users_path, login = "/api/auth/tokens/", "/api/auth/users/", "/api/auth/login"
    assert told == [
        ("user.created", "ada", "done", "POST", users_path),
        ("token.created", "ada", "done", "POST", tokens_path),
        ("token.revoked", "ada", "done", "DELETE", f"{tokens_path}{{token_id}}/"),
        ("user.changed", "ada", "done", "PATCH", f"{users_path}{{username}}/"),
        ("token.imported", "ada", "done", "POST", f"{tokens_path}import/"),
        ("key.rotated", "ada", "done", "POST", "/api/auth/keys/rotate"),
        ("login", "ada", "refused", "POST", login),
        ("login", "ada", "done", "POST", login),
        ("logout", "ada", "done", "POST", "/api/auth/logout"),
        ("login", "ada", "refused", "GET", AGENTS),
    ]
    assert all(row["source"] and row["request_id"] for row in rows[1:])
    # Nothing of it is told a second time; each is an event too, under the same id.
    assert client.app.state.service.trail.waiting == 0
    with create_engine(url, poolclass=NullPool).connect() as connection:
        statement = text("SELECT event_id::text, body FROM outbox WHERE subject = 'audit.registry' ORDER BY id")
        sent = {row.event_id: bytes(row.body) for row in connection.execute(statement)}
    assert list(sent) == [row["id"] for row in rows]
    # And what comes back with NATS is the same record.
    audit = Audit(Database(url, pool_size=2), retention=timedelta(days=1))
    messages = [SimpleNamespace(subject="audit.registry", data=body) for body in sent.values()]
    assert asyncio.run(AuditConsumer(audit).handle(cast(Sequence[Message], messages))) == []
    assert client.get(PATH, headers=admin).json()[::-1] == rows


def test_what_did_not_happen_is_told_as_what_was_tried(platform: Platform) -> None:
    user = {"username": "ada", "password": PASSWORD}
    platform.ask("POST", "/api/auth/users/", json=user)
    assert platform.ask("POST", "/api/auth/users/", json=user, headers={"X-Request-Id": "again"}).status_code == 409
    again = platform.record(request_id="again")
    assert (again["action"], again["outcome"], again["status"]) == ("request", "invalid", 409)
    assert len(platform.records(bool, user="admin")) == 2


def test_no_secret_is_ever_told(platform: Platform, url: str) -> None:
    user = {"username": "ada", "password": PASSWORD}
    platform.ask("POST", "/api/auth/users/", json=user)
    signed = platform.ask("POST", "/api/auth/tokens/", json={"name": "laptop", "subject": "ada"}).json()["token"]
    platform.ask("POST", f"{AGENTS}?token={signed}&password={PASSWORD}", token=signed, json=BEAT)
    platform.ask("GET", f"{AGENTS}?token={FIRST}", token=f"{FIRST}x")
    platform.ask("DELETE", f"/api/auth/tokens/{signed}/", token=signed)
    # People paste tokens where ids belong; not found, not allowed, not valid.
    platform.ask("DELETE", f"/api/auth/tokens/{FIRST}/")
    reader = platform.ask("POST", "/api/auth/tokens/", json={"name": "reader", "roles": ["reader"]}).json()["token"]
    assert platform.ask("DELETE", f"/api/auth/tokens/{FIRST}/", token=reader).status_code == 403
    assert platform.ask("PATCH", f"/api/auth/users/{FIRST}/", token=reader, json={}).status_code == 403
    assert platform.ask("PATCH", f"/api/auth/users/{FIRST}/", json={"roles": "x"}).status_code == 400
    assert platform.ask("PATCH", f"{AGENTS}{FIRST}/", token=reader, json={}).status_code == 403
    assert platform.ask("PATCH", f"{AGENTS}{FIRST}/", json={}).status_code == 404
    assert platform.ask("PATCH", f"/api/namespaces/{FIRST}/", json={"owner": 7}).status_code == 400
    limited = {"name": "limited", "roles": ["pcs", "operator"], "namespaces": ["n1"]}
    inside = platform.ask("POST", "/api/auth/tokens/", json=limited).json()["token"]
    ensured = {"name": FIRST, "owner": "ada"}
    assert platform.ask("POST", "/api/namespaces/ensure/", token=inside, json=ensured).status_code == 403
    platform.ask("POST", "/api/auth/login", None, json={"username": PASSWORD, "password": FIRST})
    platform.ask("POST", "/api/auth/login", None, json=user)
    platform.http.cookies.clear()
    platform.http.get(AGENTS, auth=("ada", f"{PASSWORD}x"))
    platform.ask("PATCH", "/api/auth/users/ada/", json={"password": f"{PASSWORD}y"})
    platform.records(lambda rows: any(row["action"] == "user.changed" for row in rows) and len(rows) >= 21)
    with create_engine(url, poolclass=NullPool).connect() as connection:
        kept = "\n".join(connection.execute(text("SELECT audit::text FROM audit")).scalars())
    for secret in (FIRST, PASSWORD, signed, signed.split(".")[2]):
        assert secret not in kept


def test_the_list_comes_in_pages_and_is_narrowed(platform: Platform) -> None:
    for number in range(5):
        platform.ask("POST", AGENTS, json={**BEAT, "instance_name": f"daq-{number}"})
    platform.ask("GET", AGENTS, token="forged")
    newest, *_ = rows = platform.records(lambda rows: len(rows) == 8)
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)
    seen: list[str] = []
    url = f"{PATH}?limit=4"
    while url:
        reply = platform.ask("GET", url)
        seen += [row["id"] for row in reply.json()]
        url = reply.links.get("next", {}).get("url", "")
    assert seen == [row["id"] for row in rows]
    token_id = rows[1]["token_id"]
    for query, count in (
        ({"user": "admin"}, 5),
        ({"user": "nobody"}, 0),
        ({"token": token_id}, 5),
        ({"service": "logs"}, 0),
        ({"service": "registry", "outcome": "refused"}, 1),
        ({"since": newest["at"]}, 1),
        ({"until": newest["at"]}, 7),
    ):
        assert len(platform.ask("GET", PATH, params=query).json()) == count, query
    for bad in ("outcome=x", "limit=0", "after=x", "since=yesterday", f"after={uuid4()}"):
        reply = platform.ask("GET", f"{PATH}?{bad}")
        assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json"), bad


def test_records_are_for_those_who_manage_tokens(start: Start, tokens: Any) -> None:
    client = start()
    assert client.get(PATH).status_code == 401
    assert client.get(PATH, headers=tokens.header("logs:admin")).status_code == 403
    for scope in ("tokens:admin", "admin"):
        rows = client.get(PATH, headers=tokens.header(scope)).json()
        assert [row["action"] for row in rows] == ["key.created"]


def message(*records: dict[str, Any] | Event, subject: str = "audit.logs") -> Message:
    return cast(Message, SimpleNamespace(subject=subject, data=msgspec.json.encode(records)))


def event(**other: Any) -> Event:
    names = ("token_id", "method", "route", "key", "request_id", "source")
    record = Record(**{**dict.fromkeys(names, "x"), "user": "ada", "outcome": "done", "status": 200, **other})
    return Event(uuid4(), TYPE, 1, datetime.now(UTC), record)


async def test_a_record_that_comes_twice_is_kept_once_and_what_is_none_stops_nobody(
    make_app: MakeApp, url: str
) -> None:
    make_app()
    audit = Audit(Database(url, pool_size=2), retention=timedelta(days=1))
    consumer = AuditConsumer(audit)
    good = message(event(), event(user="grace"))
    bad: Sequence[Message] = [
        message({"id": 1}),
        message(event(user="x" * 256)),
        message({**msgspec.to_builtins(event()), "data": {"secret": "s3cret"}}),
    ]
    rejected = await consumer.handle([good, *bad, good])
    assert await consumer.handle([good]) == []
    assert rejected == [(each, "no audit records") for each in bad]
    rows = await audit.newest(None, 10)
    assert sorted((row["service"], row["user"]) for row in rows) == [("logs", "ada"), ("logs", "grace")]


async def test_records_are_deleted_at_their_age_and_not_before(make_app: MakeApp, url: str) -> None:
    make_app()
    database = Database(url, pool_size=2)
    audit = Audit(database, retention=timedelta(days=90))
    old, young = (
        msgspec.structs.replace(event(user=name), at=datetime.now(UTC) - timedelta(days=age))
        for name, age in (("old", 91), ("young", 89))
    )
    await AuditConsumer(audit).handle([message(old), message(young)])
    assert Audit(database, retention=timedelta(0)).forget() == 0
    assert audit.forget() == 1
    assert [row["user"] for row in await audit.newest(None, 10)] == ["young"]


def test_the_command_shows_and_narrows(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_URL", platform.url)
    monkeypatch.setenv("SLUICE_TOKEN", FIRST)
    key = str(platform.ask("POST", AGENTS, json=BEAT).json()["id"])
    platform.record(user="admin")
    app = typer.Typer()
    app.add_typer(audit_cli.commands, name="audit")
    app.command("other")(lambda: None)
    run = CliRunner().invoke
    found = json.loads(run(app, ["audit", "--user", "admin", "--since", "10m", "--json"]).output)
    assert [row["key"] for row in found] == [key]
    assert json.loads(run(app, ["audit", "--until", "10m", "--json"]).output) == []
    assert f"registry: POST {AGENTS}" in run(app, ["audit", "--since", "2020-01-01"]).output
    assert isinstance(run(app, ["audit", "--since", "lately"]).exception, Failure)
