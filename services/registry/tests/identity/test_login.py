"""Login, logout, sessions and HTTP Basic (contract 5.3)."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import time_machine
from httpx2 import Response
from pydantic import SecretStr
from starlette.testclient import TestClient

from ..conftest import Start
from .conftest import ADMIN, PASSWORD, Door, bearer

LOGIN, PAGE = "/api/auth/login", "/accounts/login/"
HEARTBEAT = "/api/systemagents/heartbeat/"
BEAT = {"instance_name": "daq-1"}


@pytest.fixture
def door(start: Start) -> Door:
    made = Door(start(admin_token=SecretStr("first-token")))
    made.user("ada", "agent")
    return made


def log_in(client: TestClient, username: str = "ada", password: str = PASSWORD, **options: Any) -> Response:
    return client.post(LOGIN, json={"username": username, "password": password}, **options)


# --- JSON


def test_a_login_says_who_one_is_and_sets_both_cookies(door: Door) -> None:
    reply = log_in(door.client)
    assert reply.status_code == 200
    said = reply.json()
    assert (said["subject"], "agents:write" in said["scopes"], said["namespaces"]) == ("ada", True, None)
    assert timedelta(minutes=59) < datetime.fromisoformat(said["session"]["expires_at"]) - datetime.now(UTC)
    session, csrf = reply.headers.get_list("set-cookie")
    assert session.startswith("sessionid=ey")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(session.split("; "))
    assert csrf.startswith("csrftoken=")
    assert "HttpOnly" not in csrf
    assert "Secure" not in session + csrf
    assert reply.headers["cache-control"] == "no-store"
    assert door.client.get("/api/auth/whoami").json() == said


def test_behind_https_the_cookies_travel_by_it_alone(start: Start) -> None:
    client = start(admin_token=SecretStr("first-token"), shared={"public_url": "https://lab.example/monitor"})
    Door(client).user("ada")
    assert all("Secure" in cookie for cookie in log_in(client).headers.get_list("set-cookie"))


def test_below_a_prefix_the_cookies_stay_there(start: Start) -> None:
    client = start(admin_token=SecretStr("first-token"), shared={"base_path": "/swf-monitor"})
    body = {"username": "ada", "password": PASSWORD}
    assert client.post("/swf-monitor/api/auth/users/", json=body, headers=ADMIN).status_code == 201
    reply = client.post(f"/swf-monitor{LOGIN}", json=body)
    assert all("Path=/swf-monitor/" in cookie for cookie in reply.headers.get_list("set-cookie"))


def test_forms_log_in_as_well(door: Door) -> None:
    data = {"username": "ada", "password": PASSWORD, "more": "x"}
    assert door.client.post(LOGIN, data=data).json()["subject"] == "ada"
    assert door.client.post(LOGIN, files={name: (None, value) for name, value in data.items()}).status_code == 200


def test_a_session_is_no_bearer_token(door: Door) -> None:
    log_in(door.client)
    session = door.client.cookies["sessionid"]
    door.client.cookies.clear()
    for headers in ({"Authorization": f"Bearer {session}"}, {"X-Auth-Token": session}):
        assert door.client.get("/api/auth/whoami", headers=headers).status_code == 401
    assert jwt.decode(session, options={"verify_signature": False})["aud"] != "sluice"


@pytest.mark.parametrize(
    ("username", "password"), [("ada", "wrong"), ("ada", PASSWORD.upper()), ("nobody", PASSWORD), ("a\0b", PASSWORD)]
)
def test_a_wrong_password_and_a_wrong_name_are_refused_alike(door: Door, username: str, password: str) -> None:
    reply = log_in(door.client, username, password)
    assert (reply.status_code, reply.json()["detail"]) == (401, "Invalid username/password.")
    assert reply.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"username": "ada"}, 400),
        ({"username": "", "password": "x"}, 400),
        ({"username": "ada", "password": ""}, 400),
        ({"username": "ada", "password": 5}, 400),
        ({"username": ["ada"], "password": "x"}, 400),
        ({"username": "a" * 151, "password": "x"}, 400),
        ({"username": "ada", "password": "x" * 1025}, 400),
        ({"username": "ada\ud800", "password": "x"}, 400),
        ([], 400),
        ("ada", 400),
        (None, 400),
    ],
)
def test_what_is_no_login_is_a_problem_that_repeats_no_password(door: Door, body: Any, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    reply = door.client.post(LOGIN, content=json.dumps(body), headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
    assert "x" * 20 not in reply.text


@pytest.mark.parametrize(
    ("content_type", "body", "status"), [("text/plain", "{}", 415), ("application/json", "{", 400)]
)
def test_what_cannot_be_read_is_a_problem(door: Door, content_type: str, body: str, status: int) -> None:
    reply = door.client.post(LOGIN, content=body, headers={"Content-Type": content_type})
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_nobody_is_logged_in_by_a_page_of_another_site(door: Door, headers: dict[str, str]) -> None:
    assert log_in(door.client, headers=headers).status_code == 403
    data = {"username": "ada", "password": PASSWORD}
    assert door.client.post(LOGIN, data=data, headers=headers).status_code == 403
    assert door.client.post(PAGE, data=data, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://x"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://testserver"},
    ],
)
def test_pages_of_our_own_log_in(door: Door, headers: dict[str, str]) -> None:
    assert log_in(door.client, headers=headers).status_code == 200


# --- what a session may


def test_a_session_does_what_its_user_may_where_its_page_proves_itself(door: Door) -> None:
    headers = door.log_in("ada")
    assert door.client.post(HEARTBEAT, json=BEAT, headers=headers).status_code == 201
    unproven = {"Cookie": headers["Cookie"]}
    reply = door.client.post(HEARTBEAT, json=BEAT, headers=unproven)
    assert (reply.status_code, reply.json()) == (403, {"detail": "CSRF Failed: CSRF token missing."})
    without = {"Cookie": headers["Cookie"].split("; ")[0], "X-CSRFToken": headers["X-CSRFToken"]}
    reply = door.client.post(HEARTBEAT, json=BEAT, headers=without)
    assert (reply.status_code, reply.json()) == (403, {"detail": "CSRF Failed: CSRF cookie not set."})
    reply = door.client.post(HEARTBEAT, json=BEAT, headers=headers | {"X-CSRFToken": "x" * 32})
    wrong = "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."
    assert (reply.status_code, reply.json()) == (403, {"detail": wrong})


def test_the_proof_of_one_session_is_none_for_another(door: Door) -> None:
    first, second = door.log_in("ada"), door.log_in("ada")
    cookie = f"{first['Cookie'].split('; ')[0]}; {second['Cookie'].split('; ')[1]}"
    headers = {"Cookie": cookie, "X-CSRFToken": second["X-CSRFToken"]}
    assert door.client.post(HEARTBEAT, json=BEAT, headers=headers).status_code == 403


def test_a_session_wins_over_a_token_beside_it(door: Door) -> None:
    headers = door.log_in("ada")
    for authorization in ("Token nonsense", "Token first-token"):
        assert door.subject(headers | {"Authorization": authorization}) == "ada"


def test_a_bad_session_is_as_if_it_were_absent(door: Door) -> None:
    cookie = {"Cookie": "sessionid=nonsense; csrftoken=x"}
    assert door.client.post(HEARTBEAT, json=BEAT, headers=cookie | ADMIN).status_code == 201
    reply = door.client.post(HEARTBEAT, json=BEAT, headers=cookie)
    assert reply.json() == {"detail": "Authentication credentials were not provided."}
    assert door.client.get("/api/systemagents/", headers=cookie).status_code == 200


@pytest.mark.parametrize("counter", ["next-run-number", "next-agent-id"])
def test_where_only_tokens_count_a_session_and_a_password_are_nobody(door: Door, counter: str) -> None:
    path = f"/api/state/{counter}/"
    for options in ({"headers": door.log_in("ada")}, {"auth": ("ada", PASSWORD)}):
        reply = door.client.post(path, **options)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Token")
        assert reply.json() == {"detail": "Authentication credentials were not provided."}
    headers = door.log_in("ada") | bearer(door.token("ada", "agent"))
    assert door.client.post(path, headers=headers).status_code == 200


# --- how it ends


def test_a_logout_ends_the_session_everywhere(door: Door) -> None:
    headers = door.log_in("ada")
    other = door.log_in("ada")
    reply = door.client.post("/api/auth/logout", headers=headers)
    assert reply.status_code == 204
    assert all("Max-Age=0" in cookie for cookie in reply.headers.get_list("set-cookie"))
    assert door.subject(headers) is None
    assert door.subject(other) == "ada"


def test_nobody_is_logged_out_by_a_page_of_another_site(door: Door) -> None:
    headers = door.log_in("ada")
    reply = door.client.post("/api/auth/logout", headers={"Cookie": headers["Cookie"]})
    assert (reply.status_code, reply.json()["detail"]) == (403, "CSRF Failed: CSRF token missing.")
    assert door.subject(headers) == "ada"


def test_a_logout_without_a_session_ends_nothing(door: Door) -> None:
    assert door.client.post("/api/auth/logout").status_code == 204
    assert door.client.post("/api/auth/logout", headers=ADMIN).status_code == 204
    assert door.subject(ADMIN) == "admin"


def test_a_session_that_is_used_lives_on_until_its_longest_life_is_over(start: Start) -> None:
    settings = {"session_lifetime": "100s", "session_longest": "200s", "admin_token": SecretStr("first-token")}
    with time_machine.travel(time.time(), tick=True):
        door = Door(start(**settings))
        door.user("ada", "agent")
        assert log_in(door.client).status_code == 200
    began = time.time()
    first = door.client.cookies["sessionid"]
    csrf = door.client.cookies["csrftoken"]

    def ends_after() -> float:
        said = door.client.get("/api/auth/whoami").json()
        return round(datetime.fromisoformat(said["session"]["expires_at"]).timestamp() - began, -1)

    # Too early.
    assert ends_after() == 100
    assert door.client.cookies["sessionid"] == first
    with time_machine.travel(began + 60, tick=True):
        # The clock of the database stands where it stood: it is as if the session was half as long.
        assert ends_after() == 100
        assert door.client.cookies["sessionid"] != first
        assert door.client.cookies["csrftoken"] == csrf
        assert door.client.post(HEARTBEAT, json=BEAT, headers={"X-CSRFToken": csrf}).status_code == 201


# --- a page


def page(door: Door, **options: Any) -> tuple[dict[str, str], Response]:
    """Return what the form holds, after it was fetched."""
    reply = door.client.get(PAGE, **options)
    assert reply.status_code == 200
    token = reply.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    return {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token}, reply


def test_the_form_logs_in_and_goes_where_one_wanted(door: Door) -> None:
    form, reply = page(door)
    assert door.client.cookies["csrftoken"] == form["csrfmiddlewaretoken"]
    assert reply.headers["x-frame-options"] == "DENY"
    reply = door.client.post(f"{PAGE}?next=/runs/", data=form)
    assert (reply.status_code, reply.headers["location"]) == (302, "/runs/")
    assert door.client.get("/api/auth/whoami").json()["subject"] == "ada"
    # The proof of before is not that of the session.
    assert door.client.cookies["csrftoken"] != form["csrfmiddlewaretoken"]


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/runs/?a=1&b=%C3%BC#x", "/runs/?a=1&b=%C3%BC#x"),
        ("/runs/ü", "/runs/%C3%BC"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" //evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("evil.example", "/"),
    ],
)
def test_the_form_leads_nowhere_else(door: Door, target: str, location: str) -> None:
    form, _ = page(door)
    reply = door.client.post(PAGE, data={**form, "next": target})
    assert (reply.status_code, reply.headers["location"]) == (302, location)


def test_the_form_is_refused_without_its_proof(door: Door) -> None:
    form, _ = page(door)
    without = {name: value for name, value in form.items() if name != "csrfmiddlewaretoken"}
    for data, said in ((without, "CSRF token missing"), ({**form, "csrfmiddlewaretoken": "x"}, "incorrect")):
        reply = door.client.post(PAGE, data=data)
        assert (reply.status_code, said in reply.text) == (403, True)
    door.client.cookies.clear()
    reply = door.client.post(PAGE, data=form)
    assert (reply.status_code, "CSRF cookie not set" in reply.text) == (403, True)
    assert "sessionid" not in door.client.cookies


def test_a_wrong_password_shows_the_form_again(door: Door) -> None:
    form, _ = page(door)
    for data in ({**form, "password": "wrong"}, {**form, "username": ""}):
        reply = door.client.post(f"{PAGE}?next=/runs/", data=data)
        assert (reply.status_code, "correct username" in reply.text) == (401, True)
        assert 'value="/runs/"' in reply.text
    assert "sessionid" not in door.client.cookies


def test_the_form_shows_nothing_as_markup(door: Door) -> None:
    _, reply = page(door, params={"next": '"><script>'}, headers={"Cookie": 'csrftoken="><script>'})
    assert "<script>" not in reply.text


# --- HTTP Basic


def test_a_password_is_a_credential_without_a_proof(door: Door) -> None:
    reply = door.client.post(HEARTBEAT, json=BEAT, auth=("ada", PASSWORD))
    assert reply.status_code == 201
    said = door.client.get("/api/auth/whoami", auth=("ada", PASSWORD)).json()
    assert (said["subject"], said["token_id"], said["session"]) == ("ada", None, None)


@pytest.mark.parametrize("credential", [("ada", "wrong"), ("nobody", PASSWORD), ("ada", ""), ("", PASSWORD)])
def test_a_wrong_password_is_refused_even_where_none_is_needed(door: Door, credential: tuple[str, str]) -> None:
    reply = door.client.get("/api/systemagents/", auth=credential)
    assert (reply.status_code, reply.json()) == (403, {"detail": "Invalid username/password."})
    assert "www-authenticate" not in reply.headers


# --- guessing


def test_guessing_costs_time(door: Door) -> None:
    replies = [log_in(door.client, "ada", f"guess {number}") for number in range(8)]
    assert [reply.status_code for reply in replies][:5] == [401] * 5
    last = replies[-1]
    assert (last.status_code, last.headers["content-type"]) == (429, "application/problem+json")
    assert 1 <= int(last.headers["retry-after"]) <= 60

    def use_up() -> None:
        """On a slow machine a try has become free meanwhile."""
        while log_in(door.client, "ada", "guess").status_code == 401:
            pass

    # The right one has to wait too, by any door; others do not.
    use_up()
    assert log_in(door.client).status_code == 429
    form, _ = page(door)
    use_up()
    assert door.client.post(PAGE, data=form).status_code == 429
    use_up()
    basic = door.client.get("/api/systemagents/", auth=("ada", PASSWORD))
    assert (basic.status_code, basic.json()["detail"].startswith("Request was throttled.")) == (429, True)
    assert int(basic.headers["retry-after"]) >= 1
    door.user("bob")
    assert log_in(door.client, "bob").status_code == 200


def test_a_name_that_nobody_has_is_slowed_down_as_well(door: Door) -> None:
    assert [log_in(door.client, "nobody", "x").status_code for _ in range(8)][-1] == 429


@pytest.mark.parametrize(("trusted", "slowed"), [("", True), ("0.0.0.0/0", False)])
def test_a_forwarded_address_counts_behind_trusted_proxies_only(start: Start, trusted: str, slowed: bool) -> None:
    app = start(admin_token=SecretStr("first-token"), shared={"trusted_proxies": trusted}).app
    client = TestClient(app, client=("10.0.0.1", 1))

    def guess(number: int) -> int:
        headers = {"X-Forwarded-For": f"1.2.3.{number}"}
        body = {"username": f"user-{number}", "password": "x"}
        return client.post(LOGIN, json=body, headers=headers).status_code

    assert (429 in [guess(number) for number in range(40)]) is slowed
