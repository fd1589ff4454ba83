"""``/.well-known/oauth-protected-resource`` (contract 4.6)."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from sluice_registry.settings import Settings

PATH = "/.well-known/oauth-protected-resource"

Start = Callable[..., TestClient]


def test_without_an_oauth_server_there_is_none_to_name(start: Start) -> None:
    reply = start(auth0_domain="").get(PATH)
    assert (reply.status_code, reply.content) == (503, b'{"error": "OAuth not configured"}')
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("shared", "base"),
    [
        ({}, "http://testserver"),
        ({"base_path": "/swf-monitor"}, "http://testserver/swf-monitor"),
        ({"public_url": "https://lab.example/swf", "base_path": "/swf"}, "https://lab.example/swf"),
    ],
    ids=str,
)
def test_the_oauth_server_is_named_to_everybody(start: Start, shared: dict[str, str], base: str) -> None:
    client = start(auth0_domain="lab.eu.auth0.com", shared={"anonymous_read": False, **shared})
    path = f"{shared.get('base_path', '')}{PATH}"
    reply = client.get(path, headers={"Authorization": "Token bad"})
    assert reply.status_code == 200
    assert reply.json() == {
        "resource": f"{base}/mcp",
        "authorization_servers": ["https://lab.eu.auth0.com/"],
        "scopes_supported": ["openid", "profile", "email"],
        "bearer_methods_supported": ["header"],
    }
    assert client.head(path).status_code == 200
    assert client.get(f"{path}/").status_code == 404


def test_the_variable_is_that_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REGISTRY_DATABASE_URL", "postgresql://nowhere/")
    monkeypatch.setenv("AUTH0_DOMAIN", "lab.eu.auth0.com")
    assert Settings().auth0_domain == "lab.eu.auth0.com"
