"""Users of the tests, and who manages them."""

from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from ..conftest import Start

ADMIN = {"Authorization": "Token first-token"}
PASSWORD = "correct horse"


class Door:
    """A registry with its first admin, and how to come in."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def call(self, method: str, path: str, body: Any = None, *, status: int | None = None, **options: Any) -> Any:
        """Make a request as the admin; return the decoded answer."""
        options = {"headers": ADMIN, **options}
        reply = self.client.request(method, f"/api/auth/{path}", json=body, **options)
        assert status is None or reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    def user(self, username: str, *roles: str, password: str | None = PASSWORD) -> None:
        """Make a user."""
        body = {"username": username, "roles": list(roles), "password": password}
        self.call("POST", "users/", body, status=201)

    def token(self, subject: str, *roles: str, **more: Any) -> dict[str, Any]:
        """Make a token."""
        body = {"name": subject, "roles": list(roles), **more}
        made: dict[str, Any] = self.call("POST", "tokens/", body, status=201)
        return made

    def log_in(self, username: str, password: str = PASSWORD) -> dict[str, str]:
        """Log in; return the headers of the browser, which is another one than the client."""
        reply = self.client.post("/api/auth/login", json={"username": username, "password": password})
        assert reply.status_code == 200, reply.text
        session, csrf = self.client.cookies["sessionid"], self.client.cookies["csrftoken"]
        self.client.cookies.clear()
        return {"Cookie": f"sessionid={session}; csrftoken={csrf}", "X-CSRFToken": csrf}

    def subject(self, headers: dict[str, str]) -> str | None:
        """Return whom the registry takes the sender of these headers for."""
        reply = self.client.get("/api/auth/whoami", headers=headers)
        return reply.json()["subject"] if reply.status_code == 200 else None


def bearer(made: dict[str, Any]) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {made['token']}"}


@pytest.fixture
def door(start: Start) -> Door:
    """A registry with its first admin."""
    return Door(start(admin_token=SecretStr("first-token")))
