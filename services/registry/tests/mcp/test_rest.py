"""The message control protocol by HTTP (contract 8, decision 10)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens
from sluice_registry.service.mcp import MessageControl

HEARTBEAT = "/api/mcp/heartbeat/"
CAPABILITIES = "/api/mcp/discover-capabilities/"
LIVENESS = "/api/mcp/agent-liveness/"
PATHS = (HEARTBEAT, CAPABILITIES, LIVENESS)
MESSAGE = {"mcp_version": "1.0", "message_id": "m1", "payload": {}}
REPORT = {"name": "daq-1", "timestamp": "2026-05-05T10:00:00Z", "status": "WARNING"}

Say = Callable[..., httpx2.Response]


@pytest.fixture
def say(client: TestClient, tokens: Tokens) -> Say:
    """Send a message with the token of an agent."""

    def send(path: str, **changes: Any) -> httpx2.Response:
        return client.post(path, json={**MESSAGE, **changes}, headers=tokens.header("agents:write"))

    return send


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> dict[str, Any]:
    """An agent that is registered."""
    body = {"instance_name": "daq-1", "operational_state": "PROCESSING", "namespace": "n1"}
    reply = client.post("/api/systemagents/heartbeat/", json=body, headers=tokens.header("agents:write"))
    found: dict[str, Any] = reply.json()
    return found


def now(**before: int) -> str:
    return (datetime.now(UTC) - timedelta(**before)).isoformat()


def read(client: TestClient, agent: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/systemagents/{agent['id']}/").json()
    return found


def refused(reply: httpx2.Response, code: int, message: str) -> dict[str, Any]:
    """Insist on an error of the protocol; the message contains this."""
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["status"], body["mcp_version"]) == (400, "error", "1.0")
    assert UUID(body["message_id"]).version == 4
    assert body["error"]["code"] == code
    assert message in body["error"]["message"]
    return body


def test_scenario_26_the_commands_of_the_original_are_answered_as_by_it(
    client: TestClient, tokens: Tokens, say: Say
) -> None:
    reply = say(CAPABILITIES, command="discover_capabilities")
    body = reply.json()
    assert reply.status_code == 200
    assert list(body) == ["mcp_version", "message_id", "in_reply_to", "status", "payload"]
    assert (body["mcp_version"], body["in_reply_to"], body["status"]) == ("1.0", "m1", "success")
    assert UUID(body["message_id"]).version == 4
    assert set(body["payload"]) == {"discover_capabilities", "get_agent_liveness", "heartbeat"}
    assert all(isinstance(each, str) for each in body["payload"].values())

    header = tokens.header("agents:write")
    assert client.post(CAPABILITIES, json={}, headers=header).json()["error"]["code"] == 4000
    assert client.post(CAPABILITIES, json={}, headers=header).status_code == 400

    unknown = say(HEARTBEAT, payload={**REPORT, "name": "nope"})
    assert refused(unknown, 4000, "Unknown agent: nope")["error"]["message"] == "Unknown agent: nope"

    for name, minutes in (("young", 4), ("old", 6)):
        client.post("/api/systemagents/heartbeat/", json={"instance_name": name}, headers=header)
        beat = {"name": name, "timestamp": now(minutes=minutes), "status": "OK"}
        assert say(HEARTBEAT, payload=beat).json() == {"status": "success"}
    assert say(LIVENESS, command="get_agent_liveness").json()["payload"] == {"young": "alive", "old": "dead"}


def test_an_agent_that_was_never_heard_of_is_dead_and_one_that_has_exited_can_be_alive(
    client: TestClient, tokens: Tokens, say: Say
) -> None:
    header = tokens.header("agents:write")
    never = {"instance_name": "never", "agent_type": "data"}
    assert client.post("/api/systemagents/", json=never, headers=header).status_code == 201
    exited = {"instance_name": "exited", "status": "EXITED", "operational_state": "EXITED"}
    client.post("/api/systemagents/heartbeat/", json=exited, headers=header)
    assert say(LIVENESS).json()["payload"] == {"never": "dead", "exited": "alive"}


def test_a_heartbeat_sets_status_and_the_given_time_and_nothing_else(
    client: TestClient, agent: dict[str, Any], say: Say
) -> None:
    assert say(HEARTBEAT, payload=REPORT).status_code == 200
    after = read(client, agent)
    assert {key for key in after if after[key] != agent[key]} == {"status", "last_heartbeat", "updated_at"}
    assert (after["status"], after["last_heartbeat"]) == ("WARNING", "2026-05-05T10:00:00Z")


def test_a_naive_time_is_in_the_zone_of_the_server(start: Callable[..., TestClient], tokens: Tokens) -> None:
    client = start(shared={"timezone": "America/New_York"})
    header = tokens.header("agents:write")
    agent = client.post("/api/systemagents/heartbeat/", json={"instance_name": "daq-1"}, headers=header).json()
    body = {**MESSAGE, "payload": {**REPORT, "timestamp": "2026-05-05T10:00:00.5"}}
    assert client.post(HEARTBEAT, json=body, headers=header).status_code == 200
    assert read(client, agent)["last_heartbeat"] == "2026-05-05T10:00:00.500000-04:00"


def test_a_heartbeat_never_creates_an_agent(client: TestClient, say: Say) -> None:
    refused(say(HEARTBEAT, payload=REPORT), 4000, "Unknown agent: daq-1")
    assert client.get("/api/systemagents/").json() == []


def test_a_heartbeat_is_an_event_only_if_it_changes_the_status(url: str, agent: dict[str, Any], say: Say) -> None:
    def events() -> list[Any]:
        with create_engine(url).connect() as connection:
            of_agents = text("SELECT subject, body FROM outbox WHERE subject LIKE 'agents.%' ORDER BY id")
            return list(connection.execute(of_agents))

    assert len(events()) == 1
    say(HEARTBEAT, payload={**REPORT, "status": agent["status"]})
    assert len(events()) == 1
    say(HEARTBEAT, payload=REPORT)
    _, (subject, body) = events()
    assert subject == "agents.state.n1.daq-1"
    assert b'"status":"WARNING"' in bytes(body)


def test_the_id_is_all_that_a_message_needs(client: TestClient, tokens: Tokens) -> None:
    header = tokens.header("logs:read")
    for path in (CAPABILITIES, LIVENESS):
        reply = client.post(path, json={"message_id": "m1"}, headers=header)
        assert (reply.status_code, reply.json()["in_reply_to"]) == (200, "m1")


@pytest.mark.parametrize("payload", [None, 7, "text", [1], {"deep": {"er": []}}], ids=str)
def test_a_question_may_have_any_payload(say: Say, payload: Any) -> None:
    assert say(CAPABILITIES, payload=payload).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "This field is required."),
        (b"{", "JSON parse error"),
        (b"\xff", "JSON parse error"),
        (b'{"message_id": NaN}', "JSON parse error"),
        (b"[" * 60_000, "JSON parse error"),
        (b"[]", "Expected a dictionary, but got list."),
        (b'[{"message_id": "m1"}]', "Expected a dictionary, but got list."),
        (b'"text"', "Expected a dictionary, but got str."),
        (b"null", "No data provided"),
        (b'{"message_id": ""}', "This field may not be blank."),
        (b'{"message_id": null}', "This field may not be null."),
        (b'{"message_id": {}}', "Not a valid string."),
        (b'{"message_id": "%s"}' % (b"m" * 101), "no more than 100 characters."),
        (b'{"message_id": "a\\u0000"}', "Null characters are not allowed."),
        (b'{"message_id": "\\ud800"}', "Surrogate characters are not allowed: U+D800."),
        (b'{"message_id": "m1", "payload": {}, "command": ["x"]}', "Not a valid string."),
        (b'{"message_id": "m1", "payload": {}, "mcp_version": null}', "This field may not be null."),
        (b'{"message_id": "m1", "payload": {}, "mcp_version": {}}', "Not a valid string."),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:40],
)
def test_what_is_no_message_is_refused_in_the_words_of_the_protocol(
    client: TestClient, tokens: Tokens, path: str, body: bytes, message: str
) -> None:
    headers = {**tokens.header("agents:write"), "Content-Type": "application/json"}
    text = refused(client.post(path, content=body, headers=headers), 4000, message)["error"]["message"]
    assert text.startswith("Invalid request format: ")


@pytest.mark.parametrize("path", PATHS)
def test_another_version_and_an_unknown_command_have_codes_of_their_own(say: Say, path: str) -> None:
    error = refused(say(path, mcp_version="2.0"), 4002, "Unsupported MCP version. Server supports 1.0.")
    assert error["in_reply_to"] == "m1"
    assert "in_reply_to" not in refused(say(path, mcp_version="2.0", message_id=""), 4002, "Unsupported MCP version")
    refused(say(path, command="reboot"), 4004, "Unknown command: reboot")


def test_the_path_says_what_is_wanted(say: Say) -> None:
    assert set(say(CAPABILITIES, command="heartbeat").json()["payload"]) >= {"heartbeat"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "This field may not be null."),
        ({"name": "n" * 256}, "no more than 255 characters."),
        ({"name": "a\0"}, "Null characters are not allowed."),
        ({"status": "EXITED"}, '\\"EXITED\\" is not a valid choice.'),
        ({"status": ["OK"]}, "is not a valid choice."),
        ({"status": None}, "This field may not be null."),
        ({"timestamp": "yesterday"}, "Invalid timestamp format. Use ISO format."),
        ({"timestamp": 1777975200}, "Invalid timestamp format. Use ISO format."),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "Invalid timestamp format. Use ISO format."),
        ({"timestamp": None}, "This field may not be null."),
    ],
    ids=str,
)
def test_a_bad_heartbeat_names_its_fields(
    client: TestClient, agent: dict[str, Any], say: Say, change: dict[str, Any], message: str
) -> None:
    error = refused(say(HEARTBEAT, payload={**REPORT, **change}), 4000, message)
    assert next(iter(change)) in error["error"]["message"]
    assert error["in_reply_to"] == "m1"
    assert read(client, agent) == agent


@pytest.mark.parametrize("payload", [None, [], "text", {}], ids=str)
def test_a_heartbeat_needs_a_payload(say: Say, payload: Any) -> None:
    refused(say(HEARTBEAT, payload=payload), 4000, '{"payload":')


def test_a_payload_of_any_depth_is_no_failure(client: TestClient, tokens: Tokens) -> None:
    headers = {**tokens.header("agents:write"), "Content-Type": "application/json"}
    for depth in range(880, 1000):
        deep = "[" * depth + "]" * depth
        report = f'{{"name": {deep}, "timestamp": {deep}, "status": {deep}}}'
        body = f'{{"message_id": "m1", "mcp_version": "1.0", "payload": {report}}}'
        assert client.post(HEARTBEAT, content=body, headers=headers).status_code == 400


def test_longer_messages_and_other_media_types_are_refused(client: TestClient, tokens: Tokens) -> None:
    header = tokens.header("agents:write")
    long = {**MESSAGE, "payload": "x" * 70_000}
    assert client.post(CAPABILITIES, json=long, headers=header).status_code == 413
    plain = {**header, "Content-Type": "text/plain"}
    assert client.post(CAPABILITIES, content=b"{}", headers=plain).status_code == 415


@pytest.mark.parametrize("path", PATHS)
def test_a_token_is_needed(client: TestClient, tokens: Tokens, path: str) -> None:
    reply = client.post(path, json=MESSAGE)
    assert (reply.status_code, reply.json()) == (403, {"detail": "Authentication credentials were not provided."})
    reply = client.post(path, json=MESSAGE, headers={"Authorization": "Token bad"})
    assert (reply.status_code, reply.json()) == (403, {"detail": "Invalid token."})
    reply = client.get(path, headers=tokens.header("agents:write"))
    assert (reply.status_code, reply.json()) == (405, {"detail": 'Method "GET" not allowed.'})


def test_a_heartbeat_needs_the_scope_of_agents(client: TestClient, tokens: Tokens) -> None:
    reply = client.post(HEARTBEAT, json={**MESSAGE, "payload": REPORT}, headers=tokens.header("logs:read"))
    assert (reply.status_code, reply.json()["detail"]) == (403, "You do not have permission to perform this action.")


def test_a_heartbeat_of_another_namespace_is_not_taken(
    client: TestClient, tokens: Tokens, agent: dict[str, Any]
) -> None:
    body = {**MESSAGE, "payload": REPORT}
    reply = client.post(HEARTBEAT, json=body, headers=tokens.header("agents:write", namespaces=["n2"]))
    assert (reply.status_code, reply.json()["detail"]) == (403, "You do not have permission to perform this action.")
    assert read(client, agent) == agent
    header = tokens.header("agents:write", namespaces=["n1"])
    assert client.post(HEARTBEAT, json=body, headers=header).status_code == 200


def test_a_failure_of_the_server_says_nothing_of_its_inside(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise LookupError("relation system_agent")

    monkeypatch.setattr(MessageControl, "_report", fail)
    reply = say(HEARTBEAT, payload=REPORT)
    body = reply.json()
    assert (reply.status_code, body["error"]["code"], body["in_reply_to"]) == (500, 5000, "m1")
    assert body["error"]["message"].startswith("An unexpected server error occurred: ")
    assert "system_agent" not in reply.text
