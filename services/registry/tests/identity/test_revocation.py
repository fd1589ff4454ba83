"""Revoked and imported tokens, the filters of their list, and tokens for some namespaces."""

from typing import Any

import pytest

from sluice_core.auth import digest
from sluice_core.testing.tokens import Tokens

from .conftest import ADMIN, Door, bearer


def ids(door: Door, query: str = "") -> list[str]:
    return [row["id"] for row in door.call("GET", f"tokens/?{query}", status=200)]


# --- revoked


def test_a_revoked_token_is_nobodys_from_the_answer_on(door: Door) -> None:
    made = door.token("ada", "agent")
    assert door.subject(bearer(made)) == "ada"
    door.call("DELETE", f"tokens/{made['id']}/", status=204)
    assert door.subject(bearer(made)) is None
    reply = door.client.get("/api/systemagents/", headers=bearer(made))
    assert (reply.status_code, reply.json()) == (403, {"detail": "Invalid token."})


def test_revoking_twice_is_revoking_once(door: Door) -> None:
    made = door.token("ada")
    for _ in range(2):
        door.call("DELETE", f"tokens/{made['id']}/", status=204)
    (row,) = door.call("GET", "tokens/?subject=ada", status=200)
    assert row["revoked_at"] is not None


def test_everybody_revokes_his_own(door: Door) -> None:
    mine, other = door.token("ada", "reader"), door.token("ada", "agent")
    door.call("DELETE", f"tokens/{other['id']}/", status=204, headers=bearer(mine))
    door.call("DELETE", f"tokens/{mine['id']}/", status=204, headers=bearer(mine))
    assert door.subject(bearer(mine)) is door.subject(bearer(other)) is None


def test_what_is_not_ones_own_is_refused_alike_whether_it_exists(door: Door) -> None:
    bob, ada = door.token("bob", "agent"), door.token("ada", "agent")
    for token_id in (bob["id"], "nobody"):
        door.call("DELETE", f"tokens/{token_id}/", status=403, headers=bearer(ada))
    assert door.subject(bearer(bob)) == "bob"


def test_a_token_that_does_not_exist_is_404(door: Door) -> None:
    assert door.call("DELETE", "tokens/nobody/", status=404)["type"] == "urn:problem:no_such_token"


def test_an_opaque_token_can_be_revoked(door: Door) -> None:
    (row,) = door.call("GET", "tokens/", status=200)
    door.call("DELETE", f"tokens/{row['id']}/", status=204)
    assert door.subject(ADMIN) is None


# --- listed


def test_the_list_can_be_narrowed(door: Door) -> None:
    ada, bob, gone = door.token("ada"), door.token("bob"), door.token("ada")
    door.call("DELETE", f"tokens/{gone['id']}/", status=204)
    assert ids(door, "subject=ada") == [gone["id"], ada["id"]]
    assert ids(door, "subject=ada&active=true") == [ada["id"]]
    assert ids(door, "active=false") == [gone["id"]]
    assert ids(door, "kind=signed&active=true") == [bob["id"], ada["id"]]
    assert ids(door, "subject=nobody") == []


def test_sessions_are_listed_only_when_they_are_asked_for(door: Door) -> None:
    door.user("ada", "agent")
    headers = door.log_in("ada")
    session = door.call("GET", "whoami", headers=headers)["session"]["id"]
    assert session not in ids(door)
    assert ids(door, "kind=session&subject=ada") == [session]
    door.call("DELETE", f"tokens/{session}/", status=204)
    assert door.subject(headers) is None


def test_pages_keep_what_narrows_them(door: Door) -> None:
    wanted = [door.token("ada")["id"] for _ in range(3)]
    door.token("bob")
    found, url = [], "/api/auth/tokens/?limit=1&subject=ada&active=true"
    while url:
        reply = door.client.get(url, headers=ADMIN)
        found += [row["id"] for row in reply.json()]
        url = reply.links.get("next", {}).get("url", "")
    assert found == wanted[::-1]


@pytest.mark.parametrize("query", ["active=maybe", "kind=other", "subject=%00"])
def test_a_filter_that_means_nothing_is_a_problem(door: Door, query: str) -> None:
    door.call("GET", f"tokens/?{query}", status=400)


# --- imported


def old(subject: str, token: str, **more: Any) -> dict[str, Any]:
    return {"subject": subject, "sha256": digest(token), "roles": ["agent"], **more}


def test_old_tokens_work_as_they_are(door: Door) -> None:
    tokens = {f"user-{number}": f"{number:040x}" for number in range(5)}
    body = [old(subject, token) for subject, token in tokens.items()]
    assert door.call("POST", "tokens/import/", body, status=200) == {"imported": 5, "present": 0}
    for subject, token in tokens.items():
        assert door.subject({"Authorization": f"Token {token}"}) == subject
    assert {row["kind"] for row in door.call("GET", "tokens/?subject=user-1")} == {"opaque"}


def test_importing_again_changes_nothing(door: Door) -> None:
    body = [old("ada", "abc"), old("ada", "abc"), old("bob", "def")]
    assert door.call("POST", "tokens/import/", body) == {"imported": 2, "present": 1}
    assert door.call("POST", "tokens/import/", [old("eve", "abc", roles=["admin"])]) == {"imported": 0, "present": 1}
    assert door.subject({"Authorization": "Token abc"}) == "ada"
    assert door.call("POST", "tokens/import/", []) == {"imported": 0, "present": 0}


def test_a_revoked_old_token_does_not_come_back_by_importing_it_again(door: Door) -> None:
    door.call("POST", "tokens/import/", [old("ada", "abc")])
    (row,) = door.call("GET", "tokens/?subject=ada")
    door.call("DELETE", f"tokens/{row['id']}/", status=204)
    assert door.subject({"Authorization": "Token abc"}) is None
    door.call("POST", "tokens/import/", [old("ada", "abc")])
    assert door.subject({"Authorization": "Token abc"}) is None


def test_an_old_token_may_end_and_be_narrow(door: Door) -> None:
    body = [
        old("ada", "gone", expires_at="2020-01-01T00:00:00+21:54"),
        old("ada", "narrow", roles=[], scopes=["agents:write"], namespaces=["n1"]),
    ]
    door.call("POST", "tokens/import/", body, status=200)
    assert door.subject({"Authorization": "Token gone"}) is None
    shown = door.call("GET", "whoami", headers={"Authorization": "Token narrow"})
    assert (shown["scopes"], shown["namespaces"]) == (["agents:write"], ["n1"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": "abc"},
        {"sha256": digest("x").upper()},
        {"subject": ""},
        {"token": "abc"},
        {"roles": ["emperor"]},
        {"expires_at": "2020-01-01T00:00:00"},
        {"expires_at": "0001-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"namespaces": []},
        {"namespaces": ["x" * 101]},
    ],
)
def test_one_bad_token_imports_none(door: Door, wrong: dict[str, Any]) -> None:
    door.call("POST", "tokens/import/", [old("ada", "abc"), {**old("bob", "def"), **wrong}], status=400)
    assert door.subject({"Authorization": "Token abc"}) is None


def test_importing_grants_no_more_than_one_holds(door: Door, tokens: Tokens) -> None:
    headers = tokens.header("tokens:admin", "agents:write")
    door.call("POST", "tokens/import/", [old("ada", "abc", roles=["admin"])], status=403, headers=headers)
    assert door.subject({"Authorization": "Token abc"}) is None


# --- for some namespaces


def test_a_token_says_which_namespaces_it_is_for(door: Door) -> None:
    made = door.token("daq", scopes=["agents:write"], namespaces=["n2", "n1", "n1"])
    assert made["namespaces"] == ["n1", "n2"]
    assert door.call("GET", "whoami", headers=bearer(made))["namespaces"] == ["n1", "n2"]
    assert door.call("GET", "tokens/?subject=daq")[0]["namespaces"] == ["n1", "n2"]


def test_it_writes_agents_of_those_only(door: Door) -> None:
    headers = bearer(door.token("daq", scopes=["agents:write", "namespaces:write"], namespaces=["n1"]))

    def post(path: str, **body: Any) -> int:
        return door.client.post(f"/api/{path}", json=body, headers=headers).status_code

    beat = "systemagents/heartbeat/"
    assert post(beat, instance_name="a", namespace="n1") == 201
    assert post(beat, instance_name="a", namespace="n2") == 403
    assert post(beat, instance_name="b") == 403
    assert post("systemagents/", instance_name="c", agent_type="data", namespace="n1") == 201
    assert post("systemagents/", instance_name="d", agent_type="data", namespace="n2") == 403
    assert post("namespaces/ensure/", name="n1", owner="daq") == 200
    assert post("namespaces/ensure/", name="n2", owner="daq") == 403
    assert door.client.patch("/api/namespaces/n1/", json={"owner": "x"}, headers=headers).status_code == 200
    assert door.client.patch("/api/namespaces/n2/", json={"owner": "x"}, headers=headers).status_code == 403


@pytest.mark.parametrize("rights", [{"roles": ["admin"]}, {"scopes": ["tokens:admin"]}])
def test_rights_over_everything_know_no_namespaces(door: Door, rights: dict[str, Any]) -> None:
    body = {"name": "x", "namespaces": ["n1"], **rights}
    assert door.call("POST", "tokens/", body, status=400)["type"] == "urn:problem:not_for_namespaces"


def test_nobody_grants_namespaces_that_he_may_not_write(door: Door, tokens: Tokens) -> None:
    headers = tokens.header("tokens:admin", "agents:write", namespaces=["n1", "n2"])
    for namespaces, status in ((["n1"], 201), (["n1", "n3"], 403), (None, 403)):
        body = {"name": "x", "scopes": ["agents:write"], "namespaces": namespaces}
        door.call("POST", "tokens/", body, status=status, headers=headers)
