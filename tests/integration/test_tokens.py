"""Forged and faulty tokens at real doors: refused as the matrix of swf-monitor.md 5.2 says, wherever they come."""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import psycopg2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluice_core.auth import generate_key, load_private_key, thumbprint
from tests.integration.platforms import Client, Up

INVALID = {"detail": "Invalid token."}
Claims = dict[str, Any]
Forge = Callable[[Ed25519PrivateKey, Claims], str]


@pytest.fixture(scope="module")
def key(platform: Up) -> Ed25519PrivateKey:
    """The registry's own private key: what is wrong with a token is then one thing alone."""
    host, port = platform.postgres.split(":")
    connection = psycopg2.connect(
        host=host,
        port=port,
        user="sluice_registry",
        password=platform.password("postgres registry"),
        dbname="sluice_registry",
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT private_pem FROM signing_key ORDER BY created_at DESC LIMIT 1")
        ((pem,),) = cursor.fetchall()
    connection.close()
    return load_private_key(bytes(pem))


def claims(**other: Any) -> Claims:
    now = int(time.time())
    good = {"iss": "sluice", "aud": "sluice", "sub": "ada", "jti": uuid4().hex, "iat": now, "exp": now + 600}
    return {**good, "scope": "admin", "roles": ["admin"], **other}


def signed(key: Ed25519PrivateKey, payload: Claims, kid: str | None = None) -> str:
    return jwt.encode(payload, key, algorithm="EdDSA", headers={"kid": kid or thumbprint(key.public_key())})


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(algorithm: str) -> Forge:
    def forge(key: Ed25519PrivateKey, payload: Claims) -> str:
        head = {"alg": algorithm, "typ": "JWT", "kid": thumbprint(key.public_key())}
        return f"{part(head)}.{part(payload)}."

    return forge


def by_secret(secret: Callable[[Ed25519PrivateKey], bytes]) -> Forge:
    def forge(key: Ed25519PrivateKey, payload: Claims) -> str:
        text = f"{part({'alg': 'HS256', 'kid': thumbprint(key.public_key())})}.{part(payload)}"
        return f"{text}.{part(hmac.digest(secret(key), text.encode(), hashlib.sha256))}"

    return forge


def with_claims(**other: Any) -> Forge:
    return lambda key, payload: signed(key, {**payload, **other})


def without(claim: str) -> Forge:
    return lambda key, payload: signed(key, {name: value for name, value in payload.items() if name != claim})


def tampered(key: Ed25519PrivateKey, payload: Claims) -> str:
    head, _, signature = signed(key, {**payload, "scope": "", "roles": []}).split(".")
    return f"{head}.{part(payload)}.{signature}"


FORGERIES: dict[str, Forge] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg EdDSA, no signature": unsigned("EdDSA"),
    "empty key": by_secret(lambda key: b""),
    "public key as secret": by_secret(lambda key: key.public_key().public_bytes_raw()),
    "another key, our kid": lambda key, payload: signed(generate_key(), payload, thumbprint(key.public_key())),
    "another key": lambda key, payload: signed(generate_key(), payload),
    "wrong aud": with_claims(aud="elsewhere"),
    "wrong iss": with_claims(iss="elsewhere"),
    "our aud among others": with_claims(aud=["elsewhere", "sluice"]),
    "expired": with_claims(exp=int(time.time()) - 60),
    "not a time": with_claims(exp="tomorrow"),
    "without exp": without("exp"),
    "without aud": without("aud"),
    "without jti": without("jti"),
    "tampered": tampered,
    "no token": lambda key, payload: "abc",
}


@pytest.fixture(params=FORGERIES)
def forged(request: pytest.FixtureRequest, key: Ed25519PrivateKey) -> dict[str, str]:
    """The header with a token that must not pass."""
    return {"Authorization": f"Token {FORGERIES[request.param](key, claims())}"}


@pytest.fixture
def record() -> dict[str, Any]:
    texts = ("app_name", "instance_name", "levelname", "message", "module", "funcname")
    numbers = {"lineno": 1, "process": 1, "thread": 1}
    return {**dict.fromkeys(texts, "x"), **numbers, "timestamp": "2026-05-05T10:00:00"}


def test_the_same_claims_well_signed_pass(key: Ed25519PrivateKey, stranger: Client) -> None:
    good = {"Authorization": f"Token {signed(key, claims())}"}
    assert stranger.post("/api/systemagents/heartbeat/", {"instance_name": "by-ada"}, headers=good).ok
    assert stranger.post("/api/subscribers/", {"subscriber_name": "by-ada"}, headers=good).ok


@pytest.mark.parametrize("path", ["/api/systemagents/heartbeat/", "/api/systemagents/", "/api/subscribers/"])
def test_a_bad_token_at_a_session_endpoint_is_403(path: str, stranger: Client, forged: dict[str, str]) -> None:
    answer = stranger.post(path, {"instance_name": "x", "agent_type": "test", "subscriber_name": "x"}, headers=forged)
    assert (answer.status_code, answer.json()) == (403, INVALID)
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("counter", ["next-run-number", "next-agent-id"])
def test_a_bad_token_at_a_counter_is_401(counter: str, stranger: Client, forged: dict[str, str]) -> None:
    answer = stranger.post(f"/api/state/{counter}/", headers=forged)
    assert (answer.status_code, answer.json()) == (401, INVALID)
    assert answer.headers["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize("path", ["/api/systemagents/", "/api/logs/", "/api/subscribers/", "/api/logs/summary/"])
def test_a_bad_token_at_an_open_read_is_403(path: str, stranger: Client, forged: dict[str, str]) -> None:
    assert stranger.get(path, params={"limit": 1}).status_code == 200
    answer = stranger.get(path, headers=forged)
    assert (answer.status_code, answer.json()) == (403, INVALID)


@pytest.mark.parametrize("path", ["/api/", "/api/schema/"])
def test_a_bad_token_is_ignored_where_credentials_are(path: str, stranger: Client, forged: dict[str, str]) -> None:
    assert stranger.get(path, headers=forged).status_code == 200


def test_a_bad_token_with_a_log_record_is_ignored(
    stranger: Client, forged: dict[str, str], record: dict[str, Any]
) -> None:
    assert stranger.post("/api/logs/", record, headers=forged).status_code == 201
