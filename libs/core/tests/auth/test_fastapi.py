"""New endpoints know who calls, and refuse with problems that tell how to come in."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Annotated

import msgspec
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from sluice_core import errors
from sluice_core.auth import Authenticator, Identity, PasswordsAway, Signer, Throttled, digest, generate_key
from sluice_core.auth.fastapi import Reader, require
from sluice_core.testing.tokens import read_keyring

SIGNER = Signer(generate_key())


def application(*, anonymous_read: bool = True) -> FastAPI:
    keyring = read_keyring()
    keyring.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    shared = SimpleNamespace(anonymous_read=anonymous_read)
    app = FastAPI()
    app.state.service = SimpleNamespace(auth=Authenticator(keyring), settings=SimpleNamespace(shared=shared))
    errors.install(app)

    @app.get("/open")
    async def read(caller: Reader) -> str:
        return caller.subject if caller else "nobody"

    @app.get("/me")
    async def me(caller: Annotated[Identity, require()]) -> str:
        return caller.subject

    @app.post("/plans")
    async def plan(caller: Annotated[Identity, require("plans:write", "plans:lock")], steps: list[int]) -> str:
        return f"{caller.subject} {len(steps)}"

    return app


def bearer(*scopes: str) -> dict[str, str]:
    token, _ = SIGNER.sign("ada", expires_in=timedelta(hours=1), scopes=scopes)
    return {"Authorization": f"Bearer {token}"}


def cookies(*roles: str) -> dict[str, str]:
    session = SIGNER.sign_session(
        "ada", session_id="s1", expires_in=timedelta(hours=1), roles=roles, csrf=digest("proof")
    )
    return {"Cookie": f"sessionid={session}; csrftoken=proof"}


@pytest.fixture
def client() -> TestClient:
    return TestClient(application())


@pytest.mark.parametrize("path", ["/me", "/open"])
def test_without_a_credential_one_is_asked_for(path: str) -> None:
    reply = TestClient(application(anonymous_read=False)).get(path)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, 'Bearer realm="sluice"')
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["detail"] == "Authentication credentials were not provided."


def test_an_open_read_needs_no_credential(client: TestClient) -> None:
    assert client.get("/open").json() == "nobody"
    assert client.get("/open", headers=bearer()).json() == "ada"


@pytest.mark.parametrize("path", ["/me", "/open"])
def test_a_bad_credential_is_refused_even_where_none_is_needed(client: TestClient, path: str) -> None:
    reply = client.get(path, headers={"Authorization": "Token nonsense"})
    assert (reply.status_code, reply.json()["detail"]) == (401, "Invalid token.")
    assert reply.headers["www-authenticate"] == 'Bearer realm="sluice", error="invalid_token"'


@pytest.mark.parametrize("scopes", [[], ["plans:write"], ["plans:lock"], ["plans:read"]])
def test_who_lacks_a_scope_is_told_so_before_the_body_is_judged(client: TestClient, scopes: list[str]) -> None:
    reply = client.post("/plans", json="no list", headers=bearer(*scopes))
    assert (reply.status_code, reply.json()["type"]) == (403, "urn:problem:forbidden")


@pytest.mark.parametrize("scopes", [["plans:write", "plans:lock"], ["admin"]])
def test_who_holds_the_scopes_comes_in(client: TestClient, scopes: list[str]) -> None:
    assert client.post("/plans", json=[1, 2], headers=bearer(*scopes)).json() == "ada 2"


def test_a_session_reads_and_writes_where_its_page_proves_itself(client: TestClient) -> None:
    assert client.get("/me", headers=cookies()).json() == "ada"
    assert client.get("/open", headers=cookies() | {"Authorization": "Token nonsense"}).json() == "ada"
    proven = cookies("admin") | {"X-CSRFToken": "proof"}
    assert client.post("/plans", json=[1], headers=proven).json() == "ada 1"


@pytest.mark.parametrize("body", [[1], "no list"])
def test_a_session_that_proves_nothing_changes_nothing(client: TestClient, body: object) -> None:
    reply = client.post(
        "/plans", json=body, headers=cookies("admin") | {"Authorization": bearer("admin")["Authorization"]}
    )
    assert (reply.status_code, reply.json()["type"]) == (403, "urn:problem:forbidden")
    assert reply.json()["detail"] == "CSRF Failed: CSRF token missing."


@pytest.mark.parametrize(
    ("raised", "status", "wait"), [(Throttled(7.2), 429, "8"), (PasswordsAway(), 503, "2")], ids=["429", "503"]
)
def test_a_password_that_is_not_looked_at_may_be_sent_again(raised: Exception, status: int, wait: str) -> None:
    app = application()

    class Busy:
        async def check(self, *_: object) -> Identity:
            raise raised

    app.state.service.auth.passwords = Busy()
    reply = TestClient(app).get("/me", headers={"Authorization": "Basic YTpi"})
    assert (reply.status_code, reply.headers["retry-after"]) == (status, wait)
    assert reply.headers["content-type"] == "application/problem+json"


def test_openapi_shows_the_scopes_under_the_scheme_of_the_old_endpoints() -> None:
    document = application().openapi()
    assert document["paths"]["/plans"]["post"]["security"] == [{"bearer": ["plans:write", "plans:lock"]}]
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
