"""``/api/auth/tokens/``, ``/api/auth/whoami``, ``/.well-known/jwks.json``."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from ..conftest import Start

TOKENS = "/api/auth/tokens/"
ADMIN = {"Authorization": "Token first-token"}


@pytest.fixture
def client(start: Start) -> TestClient:
    return start(admin_token=SecretStr("first-token"))


def make(client: TestClient, **body: Any) -> dict[str, Any]:
    reply = client.post(TOKENS, json={"name": "laptop", **body}, headers=ADMIN)
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def test_a_new_token_is_answered_with_what_it_may(client: TestClient) -> None:
    made = make(client, subject="ada", roles=["reader", "reader"], scopes=["pcs:lock"], expires_in="12h")
    expires = datetime.fromisoformat(made.pop("expires_at"))
    assert timedelta(hours=11, minutes=59) < expires - datetime.now(UTC) <= timedelta(hours=12)
    token, token_id = made.pop("token"), made.pop("id")
    rights = {"roles": ["reader"], "scopes": ["pcs:lock"], "namespaces": None}
    assert made == {"name": "laptop", "subject": "ada", **rights}
    assert jwt.decode(token, options={"verify_signature": False})["jti"] == token_id


def test_a_new_token_is_no_food_for_caches(client: TestClient) -> None:
    assert client.post(TOKENS, json={"name": "x"}, headers=ADMIN).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("spelling", ["Token {}", "Bearer {}", "ApiKey {}"])
def test_a_new_token_is_somebody_at_once(client: TestClient, spelling: str) -> None:
    made = make(client, subject="ada", roles=["reader"])
    reply = client.get("/api/auth/whoami", headers={"Authorization": spelling.format(made["token"])})
    assert reply.json() == {
        "subject": "ada",
        "scopes": ["logs:read", "stream:read"],
        "token_id": made["id"],
        "namespaces": None,
        "session": None,
    }


def test_a_second_token_of_a_name_leaves_the_first_valid(client: TestClient) -> None:
    tokens = [make(client)["token"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    assert [client.get("/api/auth/whoami", headers={"X-Auth-Token": token}).json()["subject"] for token in tokens] == [
        "laptop",
        "laptop",
    ]


def test_without_a_life_a_token_gets_the_sites(start: Start) -> None:
    client = start(admin_token=SecretStr("first-token"), token_lifetime="2h")
    left = datetime.fromisoformat(make(client)["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("name", {}),
        ("name", {"name": ""}),
        ("name", {"name": "   "}),
        ("name", {"name": "x" * 101}),
        ("name", {"name": None}),
        ("name", {"name": 5}),
        ("name", {"name": "a\0b"}),
        ("name", {"name": "a\ud800"}),
        ("subject", {"subject": "x" * 151}),
        ("subject", {"subject": ""}),
        ("roles.0", {"roles": ["emperor"]}),
        ("roles", {"roles": "admin"}),
        ("roles", {"roles": ["reader"] * 51}),
        ("scopes.0", {"scopes": ["logs:everything"]}),
        ("scopes", {"scopes": {}}),
        ("expires_in", {"expires_in": "0s"}),
        ("expires_in", {"expires_in": -5}),
        ("expires_in", {"expires_in": "never"}),
        ("expires_in", {"expires_in": "4000d"}),
        ("expires_in", {"expires_in": "9" * 300 + "d"}),
        ("expires_in", {"expires_in": True}),
        ("expires_in", {"expires_in": []}),
        ("admin", {"admin": True}),
        ("body", []),
        ("body", "laptop"),
        ("body", None),
    ],
)
def test_a_bad_wish_is_a_problem_that_names_the_field(
    standing: TestClient, tokens: Tokens, field: str, body: Any
) -> None:
    if isinstance(body, dict) and field != "name":
        body = {"name": "laptop", **body}
    headers = {**tokens.header("admin"), "Content-Type": "application/json"}
    reply = standing.post(TOKENS, content=json.dumps(body), headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_who_may_make_tokens_grants_no_more_than_he_holds(client: TestClient, tokens: Tokens) -> None:
    caller = tokens.header("tokens:admin", "pcs:write", "logs:read", "stream:read")
    for body in (
        {"roles": ["admin"]},
        {"scopes": ["admin"]},
        {"scopes": ["pcs:write", "pcs:lock"]},
        {"roles": ["pcs"]},
    ):
        reply = client.post(TOKENS, json={"name": "x", **body}, headers=caller)
        assert (reply.status_code, reply.json()["type"]) == (403, "urn:problem:beyond_own_rights"), body
    granted = {"name": "x", "roles": ["reader"], "scopes": ["pcs:write", "tokens:admin"]}
    assert client.post(TOKENS, json=granted, headers=caller).status_code == 201


@pytest.mark.parametrize("path", [TOKENS, "/api/auth/whoami"])
def test_tokens_are_never_open(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.json()["type"]) == (401, "urn:problem:unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert client.get(path, headers={"Authorization": "Token nonsense"}).status_code == 401
    assert client.post(TOKENS, json={"name": "x"}).status_code == 401


def test_tokens_are_for_their_administrators(client: TestClient, tokens: Tokens) -> None:
    other = tokens.header("agents:write", "logs:admin")
    assert client.get(TOKENS, headers=other).status_code == 403
    assert client.post(TOKENS, json={"name": "x"}, headers=other).status_code == 403


def test_the_list_tells_who_made_which_token_and_not_the_token(client: TestClient) -> None:
    made = make(client, name="laptop", subject="ada", roles=["agent"], expires_in="1d")
    reply = client.get(TOKENS, headers=ADMIN)
    newest, admin = reply.json()
    assert newest.pop("created_at").endswith("Z")
    assert newest == {
        "id": made["id"],
        "name": "laptop",
        "kind": "signed",
        "subject": "ada",
        "roles": ["agent"],
        "scopes": [],
        "namespaces": None,
        "created_by": "admin",
        "expires_at": made["expires_at"],
        "revoked_at": None,
    }
    assert (admin["name"], admin["expires_at"]) == ("admin", None)
    assert made["token"] not in reply.text
    assert "first-token" not in reply.text


def test_the_list_comes_in_pages_that_lead_to_each_other(client: TestClient) -> None:
    for number in range(5):
        make(client, name=f"t{number}")
    seen, url = [], f"{TOKENS}?limit=2"
    while url:
        reply = client.get(url, headers=ADMIN)
        seen += [row["name"] for row in reply.json()]
        url = reply.links.get("next", {}).get("url", "")
    assert seen == ["t4", "t3", "t2", "t1", "t0", "admin"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=nobody", "after=%00", "after="])
def test_a_bad_page_is_a_problem(standing: TestClient, tokens: Tokens, query: str) -> None:
    reply = standing.get(f"{TOKENS}?{query}", headers=tokens.header("tokens:admin"))
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")


def test_the_published_keys_verify_tokens_and_are_public_only(client: TestClient) -> None:
    keys = client.get("/.well-known/jwks.json").json()["keys"]
    assert [sorted(key) for key in keys] == [["alg", "crv", "kid", "kty", "use", "x"]]
    claims = jwt.decode(
        make(client, subject="ada")["token"], jwt.PyJWK(keys[0]), audience="sluice", issuer="sluice", leeway=5
    )
    assert claims["sub"] == "ada"
