"""``/api/auth/users/`` and ``/api/auth/roles/``: who may log in, who is switched off, and who may manage whom."""

from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.auth import ROLES, Scope, digest
from sluice_core.testing.tokens import Tokens

from ..conftest import Start
from .conftest import ADMIN, PASSWORD, Door, bearer

NEW = {"username": "ada", "email": "ada@lab.example", "roles": ["agent", "agent"], "password": PASSWORD}


def can_log_in(door: Door, username: str, password: str = PASSWORD) -> bool:
    reply = door.client.post("/api/auth/login", json={"username": username, "password": password})
    door.client.cookies.clear()
    return bool(reply.status_code == 200)


# --- made and read


def test_a_new_user_is_shown_without_his_password(door: Door) -> None:
    made = door.call("POST", "users/", NEW, status=201)
    assert made.pop("created_at").endswith("Z")
    assert made == {
        "username": "ada",
        "email": "ada@lab.example",
        "is_active": True,
        "roles": ["agent"],
        "last_login": None,
    }
    assert can_log_in(door, "ada")
    assert door.call("GET", "users/ada/", status=200)["last_login"] is not None


def test_a_name_is_taken_once(door: Door) -> None:
    door.call("POST", "users/", NEW, status=201)
    refusal = door.call("POST", "users/", {**NEW, "roles": ["admin"], "password": "another one"}, status=409)
    assert refusal["type"] == "urn:problem:user_exists"
    assert can_log_in(door, "ada")
    # Names differ in case, as they did.
    door.call("POST", "users/", {"username": "Ada"}, status=201)


def test_a_user_without_a_password_cannot_log_in_by_one(door: Door) -> None:
    door.user("ada", password=None)
    assert not can_log_in(door, "ada", "None")
    door.call("PATCH", "users/ada/", {"password": PASSWORD}, status=200)
    assert can_log_in(door, "ada")
    door.call("PATCH", "users/ada/", {"password": None}, status=200)
    assert not can_log_in(door, "ada")


def test_the_list_goes_by_name_in_pages_and_can_be_narrowed(door: Door) -> None:
    for username, role in (("cleo", "reader"), ("ada", "agent"), ("bob", "agent")):
        door.user(username, role, password=None)
    door.call("DELETE", "users/bob/", status=204)
    found, url = [], "/api/auth/users/?limit=1"
    while url:
        reply = door.client.get(url, headers=ADMIN)
        found += [row["username"] for row in reply.json()]
        url = reply.links.get("next", {}).get("url", "")
    assert found == ["ada", "bob", "cleo"]
    for query, names in (
        ("active=false", ["bob"]),
        ("role=agent", ["ada", "bob"]),
        ("role=agent&active=true", ["ada"]),
    ):
        assert [row["username"] for row in door.call("GET", f"users/?{query}", status=200)] == names


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": ""},
        {"username": "two words"},
        {"username": "a/b"},
        {"username": "x" * 151},
        {"username": "ümlaut"},
        {"username": "a\nb"},
        {"email": "nobody"},
        {"email": "x" * 252 + "@y.z"},
        {"roles": ["emperor"]},
        {"roles": None},
        {"password": "short"},
        {"password": "x" * 1025},
        {"is_active": "perhaps"},
        {"is_staff": True},
    ],
)
def test_a_bad_wish_is_a_problem_and_shows_no_password(door: Door, wrong: dict[str, Any]) -> None:
    refusal = door.call("POST", "users/", {**NEW, **wrong}, status=400)
    assert [error["field"].split(".")[0] for error in refusal["errors"]] == list(wrong)
    assert PASSWORD not in str(refusal)
    assert "x" * 20 not in str(refusal)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "nobody/"), ("PATCH", "nobody/"), ("DELETE", "nobody/"), ("GET", "%2E%2E/")]
)
def test_who_does_not_exist_is_404(door: Door, method: str, path: str) -> None:
    assert door.call(method, f"users/{path}", {} if method == "PATCH" else None, status=404)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "ada/"), ("PATCH", "ada/"), ("DELETE", "ada/")]
)
def test_users_are_for_their_managers(door: Door, tokens: Tokens, method: str, path: str) -> None:
    for headers, status in (({}, 401), (tokens.header("agents:write", "logs:admin"), 403)):
        reply = door.client.request(method, f"/api/auth/users/{path}", json={}, headers=headers)
        assert reply.status_code == status


# --- switched off


def test_who_is_switched_off_loses_everything_at_once(door: Door) -> None:
    door.user("ada", "agent")
    session, made = door.log_in("ada"), door.token("ada", "agent")
    door.call("POST", "tokens/import/", [{"subject": "ada", "sha256": digest("old"), "roles": ["agent"]}], status=200)
    old = {"Authorization": "Token old"}
    assert [door.subject(each) for each in (session, bearer(made), old)] == ["ada"] * 3
    door.call("DELETE", "users/ada/", status=204)
    assert [door.subject(each) for each in (session, bearer(made), old)] == [None] * 3
    for headers in (bearer(made), old):
        reply = door.client.get("/api/systemagents/", headers=headers)
        assert (reply.status_code, reply.json()) == (403, {"detail": "User inactive or deleted."})
    assert not can_log_in(door, "ada")
    assert door.client.get("/api/auth/whoami", auth=("ada", PASSWORD)).status_code == 401
    assert door.call("GET", "users/ada/", status=200)["is_active"] is False


def test_a_password_that_was_remembered_counts_no_more(door: Door) -> None:
    door.user("ada", "agent")
    assert door.client.get("/api/auth/whoami", auth=("ada", PASSWORD)).status_code == 200
    door.call("PATCH", "users/ada/", {"is_active": False}, status=200)
    assert door.client.get("/api/auth/whoami", auth=("ada", PASSWORD)).status_code == 401


def test_who_is_switched_on_again_begins_anew(door: Door) -> None:
    door.user("ada", "agent")
    session, made = door.log_in("ada"), door.token("ada", "agent")
    door.call("PATCH", "users/ada/", {"is_active": False}, status=200)
    door.call("PATCH", "users/ada/", {"is_active": True}, status=200)
    assert door.subject(session) is door.subject(bearer(made)) is None
    assert can_log_in(door, "ada")
    assert door.subject(bearer(door.token("ada", "agent"))) == "ada"


def test_nobody_gets_a_token_for_who_is_switched_off(door: Door) -> None:
    door.user("ada", "agent")
    door.call("DELETE", "users/ada/", status=204)
    refusal = door.call("POST", "tokens/", {"name": "x", "subject": "ada"}, status=409)
    assert refusal["type"] == "urn:problem:user_inactive"
    door.call("POST", "tokens/import/", [{"subject": "ada", "sha256": digest("old"), "roles": ["agent"]}], status=200)
    reply = door.client.get("/api/systemagents/", headers={"Authorization": "Token old"})
    assert reply.json() == {"detail": "User inactive or deleted."}


def test_switching_off_touches_nobody_else(door: Door) -> None:
    door.user("ada", "agent")
    door.user("ada.b", "agent")
    session, made = door.log_in("ada.b"), door.token("ada.b", "agent")
    door.call("DELETE", "users/ada/", status=204)
    assert door.subject(session) == door.subject(bearer(made)) == "ada.b"


def test_it_holds_over_a_restart(start: Start) -> None:
    first = Door(start(admin_token=SecretStr("first-token")))
    first.user("ada", "agent")
    made = first.token("ada", "agent")
    first.call("DELETE", "users/ada/", status=204)
    # The same database, which the fixture empties only once.
    client = TestClient(first.client.app)
    with client:
        assert Door(client).subject(bearer(made)) is None


# --- changed


def test_new_roles_end_the_sessions_of_the_old_ones(door: Door) -> None:
    door.user("ada", "agent")
    session, made = door.log_in("ada"), door.token("ada", "reader")
    door.call("PATCH", "users/ada/", {"roles": ["reader"]}, status=200)
    assert door.subject(session) is None
    assert door.subject(bearer(made)) == "ada"
    said = door.call("GET", "whoami", headers=door.log_in("ada"))
    assert said["scopes"] == sorted(ROLES["reader"])


def test_a_new_password_ends_the_sessions_of_the_old_one(door: Door) -> None:
    door.user("ada", "agent")
    session = door.log_in("ada")
    door.call("PATCH", "users/ada/", {"password": "another one"}, status=200)
    assert door.subject(session) is None
    assert not can_log_in(door, "ada")
    assert can_log_in(door, "ada", "another one")


def test_what_is_absent_or_the_same_changes_nothing(door: Door) -> None:
    door.user("ada", "agent")
    session = door.log_in("ada")
    for change in ({}, {"email": "a@b"}, {"roles": ["agent"]}, {"is_active": True}):
        door.call("PATCH", "users/ada/", change, status=200)
    assert door.subject(session) == "ada"
    assert door.call("GET", "users/ada/")["email"] == "a@b"


# --- who manages whom


def test_nobody_gives_more_than_he_has(door: Door, tokens: Tokens) -> None:
    manager = tokens.header("tokens:admin", *ROLES["agent"])
    door.call("POST", "users/", {**NEW, "roles": ["admin"]}, status=403, headers=manager)
    door.call("POST", "users/", NEW, status=201, headers=manager)
    door.call("PATCH", "users/ada/", {"roles": ["admin"]}, status=403, headers=manager)
    door.call("PATCH", "users/ada/", {"roles": ["reader"]}, status=200, headers=manager)


@pytest.mark.parametrize(
    ("method", "change"), [("PATCH", {"password": "taken over"}), ("PATCH", {"roles": []}), ("DELETE", None)]
)
def test_nobody_manages_who_may_more_than_himself(door: Door, tokens: Tokens, method: str, change: Any) -> None:
    door.user("root", "admin")
    manager = tokens.header("tokens:admin", *ROLES["agent"])
    assert door.call(method, "users/root/", change, status=403, headers=manager)["type"] == (
        "urn:problem:beyond_own_rights"
    )
    assert can_log_in(door, "root")


# --- roles


def test_everybody_can_see_what_roles_grant(door: Door, tokens: Tokens) -> None:
    found = door.call("GET", "roles/", status=200, headers=tokens.header())
    assert [role["name"] for role in found] == list(ROLES)
    for role in found:
        assert {scope["name"] for scope in role["scopes"]} == ROLES[role["name"]]
        assert all(scope["description"].endswith(".") for scope in role["scopes"])
    assert door.client.get("/api/auth/roles/").status_code == 401
    assert all(scope.description for scope in Scope)
