"""Login by the facility, from the first click to the session, against a provider that answers on a port of its own."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.testing.provider import AUDIENCE, CLIENT, SECRET, ProviderServer, facility_provider

from ..conftest import Start
from .conftest import ADMIN, PASSWORD, Door

LOGIN = "/api/auth/oidc/login"
CALLBACK = "/api/auth/oidc/callback"
ADA = {"sub": "4711", "preferred_username": "ada", "groups": ["physics"], "email": "ada@x.test"}


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with facility_provider() as server:
        server.somebody = dict(ADA)
        yield server


@pytest.fixture
def door(start: Start, provider: ProviderServer) -> Door:
    """A registry at whose provider ada is logged in."""
    return started(start, provider)


def started(start: Start, provider: ProviderServer, **settings: Any) -> Door:
    shared = {"oidc_issuer": provider.issuer, "oidc_audience": AUDIENCE, "oidc_groups": "physics=agent,admins=admin"}
    shared |= settings.pop("shared", {})
    own = {"oidc_client_id": CLIENT, "oidc_client_secret": SecretStr(SECRET), "admin_token": SecretStr("first-token")}
    return Door(start(shared=shared, **(own | settings)))


def there_and_back(location: str) -> str:
    """Go to the provider, as the browser does; return what it calls afterwards: path and query."""
    reply = httpx2.get(location, follow_redirects=False)
    assert reply.status_code == 302, reply.text
    back = urlsplit(reply.headers["location"])
    return f"{back.path}?{back.query}"


def come_in(client: TestClient, next_path: str = "") -> httpx2.Response:
    begun = client.get(LOGIN, params={"next": next_path} if next_path else {})
    assert begun.status_code == 302, begun.text
    return client.get(there_and_back(begun.headers["location"]))


def account(door: Door, username: str = "ada", status: int = 200) -> Any:
    """Return what the admin sees of a user, in a browser of his own."""
    mine = dict(door.client.cookies)
    door.client.cookies.clear()
    try:
        return door.call("GET", f"users/{username}/", status=status)
    finally:
        door.client.cookies.update(mine)


def failed(reply: httpx2.Response) -> str:
    assert (reply.status_code, reply.json()["type"]) == (400, "urn:problem:login_failed")
    assert "sessionid" not in reply.headers.get("set-cookie", "")
    detail: str = reply.json()["detail"]
    return detail


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("in_token", [True, False])
def test_who_logs_in_at_the_facility_is_a_user_with_the_roles_of_his_groups(
    start: Start, provider: ProviderServer, method: str, in_token: bool
) -> None:
    provider.method, provider.in_token = method, in_token
    door = started(start, provider)
    reply = come_in(door.client, "/api/systemagents/?x=1")
    assert (reply.status_code, reply.headers["location"]) == (302, "/api/systemagents/?x=1")
    assert reply.headers["cache-control"] == "no-store"
    caller = door.client.get("/api/auth/whoami").json()
    assert caller["subject"] == "ada"
    assert "agents:write" in caller["scopes"]
    assert caller["session"]["id"] == caller["token_id"]
    user = account(door)
    assert (user["roles"], user["email"], user["is_active"]) == (["agent"], "ada@x.test", True)
    assert user["last_login"] is not None
    cookies = {each.partition("=")[0]: each for each in reply.headers.get_list("set-cookie")}
    assert "HttpOnly" in cookies["sessionid"]
    assert "HttpOnly" not in cookies["csrftoken"]
    assert "Max-Age=0" in cookies["facilitylogin"]


def test_what_changes_something_needs_the_csrf_token_after_such_a_login_too(door: Door) -> None:
    come_in(door.client)
    assert door.client.post("/api/auth/logout").status_code == 403
    proof = {"X-CSRFToken": door.client.cookies["csrftoken"]}
    assert door.client.post("/api/auth/logout", headers=proof).status_code == 204
    assert door.client.get("/api/auth/whoami").status_code == 401


def test_roles_follow_the_groups_at_each_login_and_older_sessions_end(door: Door, provider: ProviderServer) -> None:
    provider.somebody["groups"] = ["physics", "admins"]
    come_in(door.client)
    before = dict(door.client.cookies)
    door.client.cookies.clear()
    provider.somebody["groups"] = ["elsewhere"]
    come_in(door.client)
    assert door.client.get("/api/auth/whoami").json()["scopes"] == []
    door.client.cookies.clear()
    assert account(door)["roles"] == []
    assert door.subject({"Cookie": f"sessionid={before['sessionid']}"}) is None


@pytest.mark.parametrize(
    ("next_path", "safe"),
    [
        ("", "/"),
        ("/a?b=c#d", "/a?b=c#d"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("https://evil.test/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("/" + "a" * 2000, "/"),
    ],
)
def test_the_way_goes_on_to_a_path_of_this_site_only(door: Door, next_path: str, safe: str) -> None:
    assert come_in(door.client, next_path).headers["location"] == safe


def test_the_provider_is_asked_with_pkce_state_and_nonce_new_each_time(door: Door, provider: ProviderServer) -> None:
    asked = [parse_qs(urlsplit(door.client.get(LOGIN).headers["location"]).query) for _ in range(2)]
    for query in asked:
        assert query["response_type"] == ["code"]
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [f"http://testserver{CALLBACK}"]
        assert query["scope"] == ["openid profile email"]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]


def test_below_a_prefix_the_way_back_has_it(start: Start, provider: ProviderServer) -> None:
    door = started(start, provider, shared={"base_path": "/x", "public_url": "https://sluice.test/x"})
    begun = door.client.get(f"/x{LOGIN}")
    assert parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"] == [f"https://sluice.test/x{CALLBACK}"]
    assert "Path=/x/api/auth/oidc/" in begun.headers["set-cookie"]
    assert "Secure" in begun.headers["set-cookie"]


# --- what is no login


def without_cookie(client: TestClient, back: str) -> str:
    client.cookies.clear()
    return back


def cookie_of_another_login(client: TestClient, back: str) -> str:
    client.get(LOGIN)
    return back


def forged_cookie(client: TestClient, back: str) -> str:
    head, payload, signature = client.cookies["facilitylogin"].split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=="))
    assert claims["aud"] == "sluice-login"
    client.cookies.clear()
    client.cookies.set("facilitylogin", f"{head}.{payload[:-4]}AAAA.{signature}", path="/api/auth/oidc/")
    return back


def no_state(client: TestClient, back: str) -> str:
    return f"{CALLBACK}?code={parse_qs(urlsplit(back).query)['code'][0]}"


def other_state(client: TestClient, back: str) -> str:
    return f"{no_state(client, back)}&state={quote('é')}"


@pytest.mark.parametrize("spoil", [without_cookie, cookie_of_another_login, forged_cookie, no_state, other_state])
def test_a_login_that_this_browser_did_not_begin_is_none(
    door: Door, provider: ProviderServer, spoil: Callable[[TestClient, str], str]
) -> None:
    back = there_and_back(door.client.get(LOGIN).headers["location"])
    assert "not begun in this browser" in failed(door.client.get(spoil(door.client, back)))
    assert provider.asked["/token"] == 0


def test_a_session_or_a_token_is_no_begun_login(door: Door) -> None:
    back = there_and_back(door.client.get(LOGIN).headers["location"])
    for other in (door.token("eve", "admin")["token"], "x", ""):
        door.client.cookies.clear()
        door.client.cookies.set("facilitylogin", other, path="/api/auth/oidc/")
        assert "not begun" in failed(door.client.get(back))


def test_a_begun_login_is_no_token(door: Door) -> None:
    door.client.get(LOGIN)
    attempt = door.client.cookies["facilitylogin"]
    assert door.subject({"Authorization": f"Bearer {attempt}"}) is None
    assert door.subject({"Cookie": f"sessionid={attempt}"}) is None


def test_a_code_counts_once(door: Door) -> None:
    begun = door.client.get(LOGIN)
    attempt = door.client.cookies["facilitylogin"]
    back = there_and_back(begun.headers["location"])
    assert door.client.get(back).status_code == 302
    door.client.cookies.clear()
    door.client.cookies.set("facilitylogin", attempt, path="/api/auth/oidc/")
    assert "not good" in failed(door.client.get(back))


def test_who_refuses_at_the_provider_is_told_so(door: Door, provider: ProviderServer) -> None:
    provider.somebody = {}
    assert failed(come_in(door.client)) == "The facility has refused it."


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "of another login"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"]},
        {"azp": "another client"},
        {"iss": "https://elsewhere.test"},
        {"exp": 1},
        {"preferred_username": "ada admin"},
        {"preferred_username": ""},
    ],
)
def test_an_id_token_that_is_not_for_this_login_is_refused(
    door: Door, provider: ProviderServer, wrong: dict[str, Any]
) -> None:
    provider.overwritten = wrong
    assert "not good" in failed(come_in(door.client))


def test_a_wrong_client_secret_lets_nobody_in(start: Start, provider: ProviderServer) -> None:
    door = started(start, provider, oidc_client_secret=SecretStr("wrong"))
    assert "not good" in failed(come_in(door.client))


def test_userinfo_of_somebody_else_is_refused(door: Door, provider: ProviderServer) -> None:
    provider.in_token, provider.overwritten = False, {"sub": "another"}
    assert "not good" in failed(come_in(door.client))


# --- whose name it is


def test_nobody_becomes_a_user_who_has_a_password_here(door: Door) -> None:
    door.user("ada", "admin")
    assert "somebody else" in failed(come_in(door.client))
    assert account(door)["roles"] == ["admin"]
    assert door.subject(door.log_in("ada", PASSWORD)) == "ada"


@pytest.mark.parametrize("name", ["admin", "robot"])
def test_nobody_becomes_a_program_that_has_a_token(door: Door, provider: ProviderServer, name: str) -> None:
    door.token("robot", "agent")
    provider.somebody["preferred_username"] = name
    assert "somebody else" in failed(come_in(door.client))
    account(door, name, 404)


def test_a_name_that_passes_on_at_the_facility_does_not_here(door: Door, provider: ProviderServer) -> None:
    come_in(door.client)
    door.client.cookies.clear()
    provider.somebody["sub"] = "4712"
    assert "somebody else" in failed(come_in(door.client))


def test_who_got_a_new_account_there_takes_his_name_once_it_is_set_free(door: Door, provider: ProviderServer) -> None:
    come_in(door.client)
    old = dict(door.client.cookies)
    door.client.cookies.clear()
    provider.somebody["sub"] = "4712"
    assert "somebody else" in failed(come_in(door.client))
    for _ in range(2):
        door.call("DELETE", "users/ada/facility/", status=204)
    assert door.subject({"Cookie": f"sessionid={old['sessionid']}"}) is None
    assert come_in(door.client).status_code == 302
    door.client.cookies.clear()
    provider.somebody["sub"] = "4711"
    assert "somebody else" in failed(come_in(door.client))
    done = [row["user"] for row in records(door) if row["action"] == "user.unbound"]
    assert done == ["admin"]


def test_a_user_who_is_set_free_keeps_his_password(door: Door) -> None:
    door.user("ada", "admin")
    door.call("DELETE", "users/ada/facility/", status=204)
    assert "somebody else" in failed(come_in(door.client))


def test_users_are_set_free_by_who_may_as_much_as_they(door: Door, provider: ProviderServer) -> None:
    provider.somebody["groups"] = ["admins"]
    come_in(door.client)
    door.client.cookies.clear()
    made = door.token("manager", scopes=["tokens:admin"])
    manager = {"Authorization": f"Token {made['token']}"}
    door.call("DELETE", "users/ada/facility/", status=403, headers=manager)
    door.call("DELETE", "users/nobody/facility/", status=404)
    door.call("DELETE", "users/ada/facility/", status=401, headers={})


def records(door: Door) -> list[dict[str, Any]]:
    door.client.cookies.clear()
    rows: list[dict[str, Any]] = door.call("GET", "audit/", status=200)
    return rows


def test_a_login_that_the_facility_does_not_stand_for_is_recorded(door: Door, provider: ProviderServer) -> None:
    door.user("ada", "admin")
    failed(come_in(door.client))
    provider.overwritten = {"nonce": "of another login"}
    failed(come_in(door.client))
    last, before = [row for row in records(door) if row["action"] == "login"]
    assert [(row["user"], row["outcome"], row["route"]) for row in (before, last)] == [
        ("ada", "refused", CALLBACK),
        ("", "refused", CALLBACK),
    ]
    assert "somebody else" in before["detail"]["why"]


def test_a_user_made_without_a_password_waits_for_the_facility(door: Door) -> None:
    door.user("ada", "pcs", password=None)
    come_in(door.client)
    assert account(door)["roles"] == ["agent"]


def test_who_is_switched_off_here_stays_so(door: Door) -> None:
    come_in(door.client)
    door.client.cookies.clear()
    door.call("DELETE", "users/ada/", status=204)
    assert failed(come_in(door.client)) == "User inactive or deleted."
    assert account(door)["is_active"] is False


# --- the provider away, or none


def test_without_a_provider_there_is_no_such_login(start: Start) -> None:
    client = start()
    for path in (LOGIN, CALLBACK):
        assert client.get(path).json()["type"] == "urn:problem:no_facility"
    assert "oidc" not in client.get("/accounts/login/").text


def test_the_form_leads_to_the_facility_where_there_is_one(door: Door) -> None:
    assert "/api/auth/oidc/login?next=%2Fa" in door.client.get("/accounts/login/?next=/a").text


def test_while_the_provider_is_away_logins_wait_and_sessions_go_on(door: Door, provider: ProviderServer) -> None:
    come_in(door.client)
    begun = door.client.get(LOGIN)
    back = there_and_back(begun.headers["location"])
    provider.stop()
    reply = door.client.get(back)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
    assert door.client.get("/api/auth/whoami").json()["subject"] == "ada"
    provider.start()
    assert door.client.get(back).status_code == 302


def test_a_provider_that_was_never_there_is_told_so(start: Start, provider: ProviderServer) -> None:
    provider.stop()
    door = started(start, provider)
    assert door.client.get(LOGIN).status_code == 503
    provider.start()


# --- tokens of the facility


def test_a_token_of_the_facility_is_good_at_every_kind_of_door(door: Door, provider: ProviderServer) -> None:
    headers = {"Authorization": f"Bearer {provider.token()}"}
    assert door.subject(headers) == "ada"
    assert door.client.post("/api/state/next-run-number/", headers=headers).status_code == 200
    bad = {"Authorization": f"Bearer {provider.token(aud='other')}"}
    for path in ("/api/systemagents/", "/api/namespaces/"):
        assert door.client.get(path, headers=bad).json()["detail"] == "Invalid token."
    # Of a user who is switched off it is none.
    door.call("POST", "users/", {"username": "ada", "is_active": False}, status=201, headers=ADMIN)
    assert door.client.get("/api/systemagents/", headers=headers).json()["detail"] == "User inactive or deleted."


def test_a_name_that_the_facility_tells_owns_no_token_here(door: Door, provider: ProviderServer) -> None:
    made = door.call("POST", "tokens/", {"name": "program", "subject": "ada", "scopes": ["ids:write"]}, status=201)
    headers = {"Authorization": f"Bearer {provider.token()}"}
    assert door.subject(headers) == "ada"
    assert door.client.delete(f"/api/auth/tokens/{made['id']}/", headers=headers).status_code == 403
    door.call("DELETE", f"tokens/{made['id']}/", status=204)


def test_a_websocket_takes_a_token_of_the_facility(door: Door, provider: ProviderServer) -> None:
    headers = {"Authorization": f"Bearer {provider.token()}"}
    with door.client.websocket_connect("/ws/mcp/", headers=headers) as socket:
        socket.send_text("{")
        assert "error" in socket.receive_text().lower()
