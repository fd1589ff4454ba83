"""A service that has not read the keyring yet judges nobody by it: 503 at every door, never 401 or 403."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.auth import (
    BUCKETS,
    KEYS,
    REVOKED,
    TOKENS,
    Authenticator,
    Identity,
    Keyring,
    Refused,
    Signer,
    TokenRecord,
    TokensAway,
    digest,
    generate_key,
)
from sluice_core.auth.fastapi import Browser, require
from sluice_core.auth.passwords import AskedPasswords
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.service import Service, build
from sluice_core.settings import ServiceSettings, Shared
from sluice_core.testing.tokens import Tokens

SIGNER = Signer(generate_key())
DAY = timedelta(days=1)
OPAQUE = "0123456789abcdef0123456789abcdef01234567"
AWAY = "Tokens cannot be checked at the moment. Try again."


def told(keyring: Keyring, bucket: str) -> None:
    """Let a keyring read one bucket to its end."""
    if bucket == KEYS:
        keyring.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    if bucket == TOKENS:
        keyring.apply_token(digest(OPAQUE), msgspec.json.encode(TokenRecord(id="t1", subject="ada")))
    keyring.mark_read(bucket)


def signed(seconds: float = 3600) -> str:
    return SIGNER.sign("ada", expires_in=timedelta(seconds=seconds))[0]


def outcome(keyring: Keyring, token: str) -> str:
    try:
        identity = Authenticator(keyring).authenticate([(b"authorization", b"Token " + token.encode())])
    except TokensAway:
        return "away"
    except Refused as exc:
        return exc.detail
    assert identity is not None
    return identity.subject


@pytest.mark.parametrize(
    ("token", "read", "expected"),
    [
        (signed, "", "away"),
        (signed, "keys", "away"),
        (signed, "keys tokens", "away"),
        (signed, "tokens revoked", "away"),
        (signed, "keys revoked", "ada"),
        (signed, "keys tokens revoked", "ada"),
        (lambda: OPAQUE, "", "away"),
        (lambda: OPAQUE, "keys revoked", "away"),
        (lambda: OPAQUE, "tokens", "away"),
        (lambda: OPAQUE, "tokens revoked", "ada"),
        # An opaque token of an older system looks like anything.
        (lambda: "nonsense", "keys revoked", "away"),
        (lambda: "nonsense", "tokens", "Invalid token."),
        (lambda: signed(-60), "keys revoked", "away"),
        (lambda: signed(-60), "keys tokens", "Invalid token."),
        (lambda: "two words", "", "Invalid token header. Token string should not contain spaces."),
    ],
)
def test_what_depends_on_what_was_not_read_is_not_decided(token: Callable[[], str], read: str, expected: str) -> None:
    keyring = Keyring()
    for bucket in BUCKETS:
        if bucket in read.split():
            told(keyring, bucket)
    assert outcome(keyring, token()) == expected


def test_what_was_not_decided_is_not_remembered() -> None:
    keyring, token = Keyring(), signed()
    auth = Authenticator(keyring)
    headers = [(b"authorization", b"Token " + token.encode())]
    with pytest.raises(TokensAway):
        auth.authenticate(headers)
    for bucket in BUCKETS:
        told(keyring, bucket)
    assert auth.authenticate(headers) is not None


async def test_a_remembered_password_is_asked_about_again_as_long_as_nobody_knows_who_is_switched_off() -> None:
    asked: list[str] = []

    async def ask(username: str, _password: str, _source: str) -> Identity:
        asked.append(username)
        return Identity(username, frozenset(), None, by="password")

    keyring = Keyring()
    auth = Authenticator(keyring)
    auth.passwords = AskedPasswords(ask, keyring)
    scope = {"method": "GET", "client": ("10.0.0.1", 1), "headers": [(b"authorization", b"Basic YWRhOnNlY3JldA==")]}
    await auth.identify(scope)
    await auth.identify(scope)
    assert asked == ["ada", "ada"]
    told(keyring, REVOKED)
    await auth.identify(scope)
    assert asked == ["ada", "ada"]


# --- doors


async def _answer(request: Request) -> Reply:
    return Reply(200, {"who": None if request.identity is None else request.identity.subject})


KINDS = ("session", "token", "read", "open", "browser", "ignored")


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A service in which every kind of door is, and that has read nothing."""
    app = build(
        Service(
            "test",
            ServiceSettings(
                database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"),
                shared=Shared(nats_url=SecretStr("nats://127.0.0.1:1")),
            ),
        ),
        title="Test",
        package="sluice_core",
        endpoints=tuple(
            Endpoint(f"/api/{kind}/", {"GET": _answer, "POST": _answer}, auth=kind)  # type: ignore[arg-type]
            for kind in KINDS
        ),
    )
    _add_problem_routes(app)
    return TestClient(app)


def _add_problem_routes(app: FastAPI) -> None:
    @app.post("/new/required/")
    async def required(who: Annotated[Identity, require()]) -> dict[str, str]:
        return {"who": who.subject}

    @app.post("/new/browser/")
    async def browser(session: Browser) -> dict[str, Any]:
        return {"who": session and session.identity.subject}


def headers(kind: str) -> dict[str, str]:
    tokens = Tokens()
    return {
        "signed": tokens.header("admin"),
        "opaque": {"X-Auth-Token": OPAQUE},
        "session": tokens.session("admin"),
    }[kind]


@pytest.mark.parametrize("credential", ["signed", "opaque", "session"])
@pytest.mark.parametrize("door", [f"/api/{kind}/" for kind in KINDS] + ["/new/required/", "/new/browser/"])
def test_every_door_says_503_in_its_own_shape(client: TestClient, door: str, credential: str) -> None:
    reply = client.post(door, headers=headers(credential), json={})
    looks = {"/api/ignored/": (), "/api/token/": ("signed", "opaque")}
    only_sessions = ("/api/browser/", "/new/browser/")
    if credential not in (("session",) if door in only_sessions else looks.get(door, ("signed", "opaque", "session"))):
        assert reply.status_code == (401 if door == "/api/token/" else 200), reply.text
        return
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json()["detail"] == AWAY
    if door.startswith("/api/"):
        assert (reply.headers["content-type"], reply.json()) == ("application/json", {"detail": AWAY})
    else:
        assert reply.headers["content-type"] == "application/problem+json"


def test_a_cookie_of_somebody_else_and_no_credential_are_decided(client: TestClient) -> None:
    assert client.get("/api/read/").status_code == 200
    assert client.get("/api/read/", headers={"Cookie": "sessionid=of-another-application"}).status_code == 200
    assert client.post("/api/session/").status_code == 403
    assert client.post("/api/token/").status_code == 401
