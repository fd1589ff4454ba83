"""Identity over two processes: what the registry knows, another service acts on, with and without NATS and registry."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import contains
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from sluice_core.auth import digest
from sluice_core.testing import Databases, NatsServer, eventually, servers
from tests.integration.platforms import Client, Serve

ADMIN = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "correct horse"
# A read that is open to all, and never to a bad credential.
LOGS = "/api/logs/"
LOG = f"{LOGS}1/"

Headers = dict[str, str]


@dataclass
class Pair:
    """The registry and the log service, each a process of its own."""

    registry: Serve
    logs: Serve
    nats: NatsServer

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Ask the registry as its admin."""
        options = {"headers": {"Authorization": f"Token {ADMIN}"}, **options}
        reply = requests.request(method, f"{self.registry.http}/api/auth/{path}", json=body, timeout=20, **options)
        assert reply.status_code < 400, reply.text
        return reply

    def token(self, subject: str, *roles: str) -> tuple[str, Headers]:
        """Make a token; return its id and its header."""
        made = self.call("POST", "tokens/", {"name": subject, "roles": list(roles)}).json()
        return made["id"], {"Authorization": f"Bearer {made['token']}"}

    def user(self, username: str, *roles: str) -> None:
        self.call("POST", "users/", {"username": username, "roles": list(roles), "password": PASSWORD})

    def log_in(self, username: str) -> Headers:
        """Return the headers of a browser."""
        reply = self.call("POST", "login", {"username": username, "password": PASSWORD}, headers={})
        session, csrf = reply.cookies["sessionid"], reply.cookies["csrftoken"]
        return {"Cookie": f"sessionid={session}; csrftoken={csrf}", "X-CSRFToken": csrf}

    def delete(self, headers: Headers) -> tuple[int, str]:
        """Ask the log service for what only admins of logs may do; there is no such record."""
        reply = requests.delete(f"{self.logs.http}{LOG}", headers=headers, timeout=20)
        return reply.status_code, str(reply.json()["detail"]) if reply.content else ""

    def takes(self, headers: Headers) -> bool:
        """Whether the log service takes this credential for an admin's."""
        return self.delete(headers)[0] == 404

    def refused_within(self, seconds: float, headers: Headers) -> None:
        """Wait for the refusal, and measure it."""
        began = time.monotonic()
        eventually(lambda: not self.takes(headers), 20)
        took = time.monotonic() - began
        assert took < seconds, f"it took {took:.2f} s"


@pytest.fixture(scope="module")
def pair(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        nats = stack.enter_context(servers.nats())
        urls = {name: stack.enter_context(databases.fresh(f"sluice_{name}")) for name in ("registry", "logs")}
        registry = Serve(
            "registry",
            folder,
            database_url=urls["registry"],
            nats_url=nats.url(),
            SLUICE_REGISTRY_ADMIN_TOKEN=ADMIN,
            SLUICE_REGISTRY_KEY_DELAY="1s",
        )
        stack.enter_context(registry)
        logs = Serve("logs", folder, database_url=urls["logs"], nats_url=nats.url(), SLUICE_PEER_URL=registry.http)
        stack.enter_context(logs)
        eventually(registry.ready, 30)
        eventually(logs.ready, 30)
        yield Pair(registry, logs, nats)


# --- revoked


def test_a_revocation_counts_in_another_process_within_a_second(pair: Pair) -> None:
    token_id, headers = pair.token("ada", "admin")
    assert pair.takes(headers)
    pair.call("DELETE", f"tokens/{token_id}/")
    pair.refused_within(1.0, headers)
    assert pair.delete(headers) == (403, "Invalid token.")


def test_an_imported_token_works_and_is_revoked_like_any_other(pair: Pair) -> None:
    headers = {"Authorization": "Token of-the-old-monitor"}
    old = {"subject": "old", "sha256": digest("of-the-old-monitor"), "roles": ["admin"]}
    pair.call("POST", "tokens/import/", [old])
    eventually(lambda: pair.takes(headers))
    (row,) = pair.call("GET", "tokens/?subject=old").json()
    pair.call("DELETE", f"tokens/{row['id']}/")
    pair.refused_within(1.0, headers)


def test_a_session_is_good_everywhere_and_ends_everywhere(pair: Pair) -> None:
    pair.user("ada", "admin")
    headers = pair.log_in("ada")
    assert pair.takes(headers)
    assert pair.delete({"Cookie": headers["Cookie"]}) == (403, "CSRF Failed: CSRF token missing.")
    # What is open to all is not open to a page of somebody else (5.3).
    reply = requests.post(pair.logs.http + LOGS, json={}, headers={"Cookie": headers["Cookie"]}, timeout=20)
    assert (reply.status_code, reply.json()) == (403, {"detail": "CSRF Failed: CSRF token missing."})
    assert requests.post(pair.logs.http + LOGS, json={}, headers=headers, timeout=20).status_code == 400
    pair.call("POST", "logout", headers=headers)
    pair.refused_within(1.0, headers)


def test_who_is_switched_off_is_nobody_in_another_process_within_a_second(pair: Pair) -> None:
    pair.user("bob", "admin")
    session, (_, token) = pair.log_in("bob"), pair.token("bob", "admin")
    assert pair.takes(session)
    assert pair.takes(token)
    pair.call("DELETE", "users/bob/")
    pair.refused_within(1.0, token)
    assert pair.delete(token) == (403, "User inactive or deleted.")
    assert not pair.takes(session)


def test_a_revocation_is_not_held_up_by_thousands_of_new_tokens(pair: Pair) -> None:
    token_id, headers = pair.token("ada", "admin")
    assert pair.takes(headers)
    for start in range(0, 5000, 1000):
        body = [
            {"subject": f"user-{number}", "sha256": digest(f"old-{number}"), "roles": ["reader"]}
            for number in range(start, start + 1000)
        ]
        pair.call("POST", "tokens/import/", body)
    pair.call("DELETE", f"tokens/{token_id}/")
    pair.refused_within(1.0, headers)


# --- NATS is away


def test_without_nats_what_was_refused_stays_refused_and_what_was_good_stays_good(pair: Pair) -> None:
    revoked_id, revoked = pair.token("ada", "admin")
    _, good = pair.token("ada", "admin")
    pair.call("DELETE", f"tokens/{revoked_id}/")
    eventually(lambda: not pair.takes(revoked))
    pair.nats.kill()
    try:
        eventually(lambda: not pair.logs.ready())
        assert pair.takes(good)
        assert pair.delete(revoked) == (403, "Invalid token.")
        # The registry knows its own revocations without NATS.
        later_id, later = pair.token("ada", "admin")
        pair.call("DELETE", f"tokens/{later_id}/")
        reply = requests.get(f"{pair.registry.http}/api/auth/whoami", headers=later, timeout=20)
        assert reply.status_code == 401
    finally:
        pair.nats.start()
    eventually(pair.logs.ready, 30)
    eventually(lambda: not pair.takes(later), 30)
    assert pair.delete(revoked) == (403, "Invalid token.")
    assert pair.takes(good)


def test_a_fresh_process_without_nats_is_not_ready_and_judges_nobody(
    pair: Pair, fresh_database: Callable[[str], str], tmp_path: Path
) -> None:
    _, good = pair.token("ada", "admin")
    nowhere = Serve("logs", tmp_path, database_url=fresh_database("sluice_logs"), nats_url="nats://127.0.0.1:1")
    with nowhere:
        report = requests.get(f"{nowhere.admin}/readyz", timeout=10)
        assert report.status_code == 503
        assert not report.json()["checks"]["keyring"]["ok"]
        assert Client(nowhere.http).get(LOGS).status_code == 200
        # Good or bad: it cannot know, and a client must not give up on its token.
        for headers in (good, {"Authorization": "Token of-nobody"}):
            reply = requests.delete(f"{nowhere.http}{LOG}", headers=headers, timeout=10)
            assert (reply.status_code, reply.headers["Retry-After"]) == (503, "2")
            assert reply.json() == {"detail": "Tokens cannot be checked at the moment. Try again."}


def test_no_record_of_what_was_answered_is_lost_by_kill_9(fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    url = fresh_database("sluice_registry")
    admin = {"Authorization": f"Token {ADMIN}"}
    with Serve(
        "registry", tmp_path, database_url=url, nats_url="nats://127.0.0.1:1", SLUICE_REGISTRY_ADMIN_TOKEN=ADMIN
    ) as registry:
        made = requests.post(
            f"{registry.http}/api/auth/tokens/", json={"name": "ada"}, headers=admin, timeout=20
        ).json()
        wrong = {"username": "admin", "password": "wrong"}
        assert requests.post(f"{registry.http}/api/auth/login", json=wrong, timeout=20).status_code == 401
        token = f"{registry.http}/api/auth/tokens/{made['id']}/"
        assert requests.delete(token, headers=admin, timeout=20).status_code == 204
        registry.kill()
        registry.start()
        rows = requests.get(f"{registry.http}/api/auth/audit/", headers=admin, timeout=20).json()
    assert [(row["action"], row["key"], row["outcome"]) for row in rows[:3]] == [
        ("token.revoked", made["id"], "done"),
        ("login", "", "refused"),
        ("token.created", made["id"], "done"),
    ]
    assert sorted(row["action"] for row in rows[3:]) == ["key.created", "token.imported"]


# --- keys change


def test_keys_change_under_load_without_one_refused_request(pair: Pair) -> None:
    stop, outcomes, signed_by = threading.Event(), list[int](), set[str]()

    def load() -> None:
        session = requests.Session()
        while not stop.is_set():
            _, headers = pair.token("ada", "admin")
            signed_by.add(jwt.get_unverified_header(headers["Authorization"].split()[1])["kid"])
            for _ in range(3):
                outcomes.append(session.delete(pair.logs.http + LOG, headers=headers, timeout=20).status_code)

    _, first = pair.token("ada", "admin")
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            kid = pair.call("POST", "keys/rotate").json()["kid"]
            eventually(partial(contains, signed_by, kid), 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(outcomes) == {404}, {status: outcomes.count(status) for status in set(outcomes)}
    assert len(outcomes) > 50
    assert len(signed_by) == 3
    assert pair.takes(first)


# --- passwords


def basic(username: str, password: str = PASSWORD) -> Headers:
    request = requests.Request("GET", "http://x", auth=(username, password)).prepare()
    return {"Authorization": str(request.headers["Authorization"])}


def test_another_service_asks_the_registry_about_passwords(pair: Pair) -> None:
    pair.user("cleo", "admin")
    assert pair.takes(basic("cleo"))
    assert pair.delete(basic("cleo", "wrong")) == (403, "Invalid username/password.")
    assert pair.delete(basic("nobody")) == (403, "Invalid username/password.")
    reply = requests.get(pair.logs.http + LOGS, headers=basic("cleo", "wrong"), timeout=20)
    assert reply.status_code == 403


def test_who_is_switched_off_has_no_password_that_is_remembered(pair: Pair) -> None:
    pair.user("dora", "admin")
    assert pair.takes(basic("dora"))
    pair.call("DELETE", "users/dora/")
    pair.refused_within(1.0, basic("dora"))


def test_guessing_at_another_service_costs_time(pair: Pair) -> None:
    pair.user("erna", "admin")
    statuses = [pair.delete(basic("erna", f"guess {number}"))[0] for number in range(9)]
    assert statuses[:4] == [403] * 4
    assert statuses[-1] == 429


def test_without_the_registry_tokens_hold_and_passwords_wait(
    pair: Pair, fresh_database: Callable[[str], str], tmp_path: Path
) -> None:
    with Serve(
        "logs",
        tmp_path,
        database_url=fresh_database("sluice_logs"),
        nats_url=pair.nats.url(),
        SLUICE_PEER_URL="http://127.0.0.1:1",
    ) as alone:
        eventually(alone.ready, 30)
        _, good = pair.token("ada", "admin")
        assert requests.delete(alone.http + LOG, headers=good, timeout=10).status_code == 404
        reply = requests.delete(alone.http + LOG, headers=basic("cleo"), timeout=10)
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "2")
        assert reply.json() == {"detail": "Passwords cannot be checked at the moment. Try again."}
