"""The message control protocol over a WebSocket, behind real ports (contract 8, decision 10)."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import jwt
import pytest
import requests
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sluice_core.auth import authenticator
from sluice_core.testing import eventually
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens
from sluice_registry.service.mcp import MessageControl

MESSAGE = {"mcp_version": "1.0", "message_id": "m1", "command": "discover_capabilities", "payload": {}}
REPORT = {"name": "daq-1", "timestamp": "2026-05-05T10:00:00Z", "status": "WARNING"}
BEAT = {**MESSAGE, "command": "heartbeat", "payload": REPORT}
NO_MESSAGE = "Invalid MCP message format. 'message_id', 'command', and 'payload' are required."


class Door:
    """The registry's WebSocket on a real port."""

    def __init__(self, app: FastAPI, url: str, admin_url: str, tokens: Tokens) -> None:
        self.app = app
        self.url = url
        self._admin_url = admin_url
        self._tokens = tokens

    def connect(self, *scopes: str, path: str = "/ws/mcp/", **token: Any) -> ClientConnection:
        """Open a connection with the token of somebody who holds these scopes."""
        header = self._tokens.header(*scopes or ("agents:write",), **token)
        return self.shake(path=path, additional_headers=header)

    def shake(self, path: str = "/ws/mcp/", **options: Any) -> ClientConnection:
        """Open a connection as a client wishes."""
        made: ClientConnection = connect(f"{self.url.replace('http', 'ws', 1)}{path}", proxy=None, **options)
        return made

    def refused(self, **options: Any) -> tuple[int, Any]:
        """Insist on a handshake that fails; return status and body."""
        with pytest.raises(InvalidStatus) as failed:
            self.shake(**options)
        response = failed.value.response
        return response.status_code, json.loads(response.body or b"null")

    def count(self, command: str, outcome: str) -> float:
        """Return how many messages were counted so."""
        sample = f'sluice_mcp_messages_total{{command="{command}",outcome="{outcome}"}} '
        text = requests.get(f"{self._admin_url}/metrics", timeout=5).text
        return float(text.partition(sample)[2].partition("\n")[0])

    def agent(self, name: str, **said: Any) -> dict[str, Any]:
        """Register an agent."""
        body = {"instance_name": name, **said}
        reply = requests.post(
            f"{self.url}/api/systemagents/heartbeat/",
            json=body,
            headers=self._tokens.header("agents:write"),
            timeout=5,
        )
        found: dict[str, Any] = reply.json()
        return found

    def read(self, agent: dict[str, Any]) -> dict[str, Any]:
        """Return the agent as it is now."""
        found: dict[str, Any] = requests.get(f"{self.url}/api/systemagents/{agent['id']}/", timeout=5).json()
        return found


Open = Callable[..., Door]


@pytest.fixture
def open_door(make_app: Callable[..., FastAPI], tokens: Tokens) -> Iterator[Open]:
    """Serve the registry with settings of the test's choice."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Door:
            app = make_app(**settings)
            served = stack.enter_context(serving(app))
            return Door(app, served.url, served.admin_url, tokens)

        yield start


@pytest.fixture
def door(open_door: Open) -> Door:
    return open_door()


def say(socket: ClientConnection, message: Any) -> None:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


def hear(socket: ClientConnection) -> dict[str, Any]:
    text = socket.recv(timeout=10)
    assert isinstance(text, str)
    found: dict[str, Any] = json.loads(text)
    return found


def ended(socket: ClientConnection) -> tuple[int, str]:
    """Wait until the server closes a connection; return the code and the reason."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# Messages


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**MESSAGE, **changes}.items() if key not in keys}


ORDER: list[tuple[Any, int, str]] = [
    ("{", 4000, "Invalid JSON format."),
    ("", 4000, "Invalid JSON format."),
    (b"\x00", 4000, "Invalid JSON format."),
    (json.dumps(MESSAGE).encode(), 4000, "Invalid JSON format."),
    ('{"mcp_version": NaN}', 4000, "Invalid JSON format."),
    ('{"message_id": "\\ud800"}', 4000, "Invalid JSON format."),
    ("[" * 60_000, 4000, "Invalid JSON format."),
    ("[]", 4000, NO_MESSAGE),
    ("null", 4000, NO_MESSAGE),
    ({}, 4001, "'mcp_version' is a required field."),
    (without("mcp_version"), 4001, "'mcp_version' is a required field."),
    ({"mcp_version": None}, 4001, "'mcp_version' is a required field."),
    ({"mcp_version": "2.0"}, 4002, "Unsupported MCP version. Server supports 1.0."),
    ({"mcp_version": ["1.0"]}, 4002, "Unsupported MCP version. Server supports 1.0."),
    ({**MESSAGE, "mcp_version": "2.0", "command": "reboot"}, 4002, "Unsupported MCP version. Server supports 1.0."),
    ({"mcp_version": "1.0"}, 4000, NO_MESSAGE),
    (without("message_id", command="reboot"), 4000, NO_MESSAGE),
    (without("command"), 4000, NO_MESSAGE),
    (without("payload", command="reboot"), 4000, NO_MESSAGE),
    ({**MESSAGE, "message_id": ""}, 4000, NO_MESSAGE),
    ({**MESSAGE, "message_id": "m" * 101}, 4000, NO_MESSAGE),
    ({**MESSAGE, "command": 7}, 4000, NO_MESSAGE),
    ({**MESSAGE, "payload": None}, 4000, NO_MESSAGE),
    ({**BEAT, "message_id": None}, 4000, NO_MESSAGE),
    ({**MESSAGE, "command": "reboot"}, 4004, "Unknown command: reboot"),
    ({**MESSAGE, "command": "reboot", "payload": 0}, 4004, "Unknown command: reboot"),
]


def test_errors_come_in_the_order_of_the_contract_and_end_no_connection(door: Door) -> None:
    with door.connect() as socket:
        for message, code, text in ORDER:
            say(socket, message)
            body = hear(socket)
            assert (body["status"], body["mcp_version"], body["error"]) == (
                "error",
                "1.0",
                {"code": code, "message": text},
            ), message
            assert UUID(body["message_id"]).version == 4
            named = isinstance(message, dict) and message.get("message_id") == "m1"
            assert body.get("in_reply_to") == ("m1" if named else None), message
        say(socket, MESSAGE)
        assert hear(socket)["status"] == "success"
    assert door.count("other", "refused") == len(ORDER)


def test_a_failure_of_the_server_is_5000_without_its_inside(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise LookupError("relation system_agent")

    monkeypatch.setattr(door.app.state.service.database, "run", fail)
    with door.connect() as socket:
        say(socket, {**MESSAGE, "command": "get_agent_liveness"})
        body = hear(socket)
    assert (body["error"]["code"], body["in_reply_to"]) == (5000, "m1")
    assert body["error"]["message"].startswith("An unexpected server error occurred: ")
    assert "system_agent" not in body["error"]["message"]
    assert door.count("get_agent_liveness", "failed") == 1


def test_questions_are_answered_in_their_envelope(door: Door) -> None:
    door.agent("young")
    with door.connect("logs:read") as socket:
        say(socket, MESSAGE)
        body = hear(socket)
        assert list(body) == ["mcp_version", "message_id", "in_reply_to", "status", "payload"]
        assert (body["in_reply_to"], body["status"]) == ("m1", "success")
        assert set(body["payload"]) == {"discover_capabilities", "get_agent_liveness", "heartbeat"}
        say(socket, {**MESSAGE, "message_id": "m2", "command": "get_agent_liveness", "payload": []})
        body = hear(socket)
        assert (body["in_reply_to"], body["payload"]) == ("m2", {"young": "alive"})


def test_a_heartbeat_is_never_answered_and_what_is_wrong_with_it_is_counted(door: Door) -> None:
    agent = door.agent("daq-1", operational_state="READY")
    with door.connect() as socket:
        say(socket, BEAT)
        say(socket, {**BEAT, "payload": {**REPORT, "name": "nobody"}})
        say(socket, {**BEAT, "payload": {**REPORT, "status": "EXITED"}})
        say(socket, {**BEAT, "payload": "x"})
        say(socket, {**MESSAGE, "message_id": "last"})
        assert hear(socket)["in_reply_to"] == "last"
    after = door.read(agent)
    assert (after["status"], after["last_heartbeat"]) == ("WARNING", REPORT["timestamp"])
    assert after["operational_state"] == "READY"
    assert door.count("heartbeat", "done") == 1
    assert door.count("heartbeat", "refused") == 3


def test_a_failing_heartbeat_is_swallowed_too(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise LookupError

    monkeypatch.setattr(MessageControl, "_report", fail)
    with door.connect() as socket:
        say(socket, BEAT)
        say(socket, MESSAGE)
        assert hear(socket)["status"] == "success"
    assert door.count("heartbeat", "failed") == 1


@pytest.mark.parametrize(("scope", "namespace"), [("logs:read", "n1"), ("agents:write", "n2")])
def test_a_heartbeat_without_the_right_changes_nothing(door: Door, scope: str, namespace: str) -> None:
    agent = door.agent("daq-1", namespace="n1")
    with door.connect(scope, namespaces=[namespace]) as socket:
        say(socket, BEAT)
        say(socket, MESSAGE)
        assert hear(socket)["status"] == "success"
    assert door.read(agent) == agent
    assert door.count("heartbeat", "refused") == 1


# The handshake


def test_a_token_is_taken_in_every_spelling_and_from_a_browser_as_a_subprotocol(door: Door, tokens: Tokens) -> None:
    token = tokens.header("agents:write")["Authorization"].split()[1]
    for header in (
        {"Authorization": f"Token {token}"},
        {"Authorization": f"bearer {token}"},
        {"Authorization": f"ApiKey {token}"},
        {"X-Auth-Token": token},
        {"token": token},
    ):
        with door.shake(additional_headers=header) as socket:
            assert socket.subprotocol is None
            say(socket, MESSAGE)
            assert hear(socket)["status"] == "success"
    with door.shake(subprotocols=["bearer", token]) as socket:
        assert socket.subprotocol == "bearer"
        say(socket, MESSAGE)
        assert hear(socket)["status"] == "success"


def test_a_handshake_without_a_good_token_is_403(door: Door, tokens: Tokens) -> None:
    token = tokens.header("agents:write")["Authorization"].split()[1]
    missing = (403, {"detail": "Authentication credentials were not provided."})
    invalid = (403, {"detail": "Invalid token."})
    assert door.refused() == missing
    assert door.refused(path=f"/ws/mcp/?token={token}") == missing
    assert door.refused(additional_headers={"Cookie": f"sessionid={token}; token={token}"}) == missing
    assert door.refused(subprotocols=["bearer"]) == missing
    assert door.refused(subprotocols=["mcp", token]) == missing
    assert door.refused(subprotocols=["bearer", "bad"]) == invalid
    assert door.refused(additional_headers={"Authorization": "Token bad"}) == invalid
    # What is said in a header counts.
    assert door.refused(additional_headers={"Authorization": "Token bad"}, subprotocols=["bearer", token]) == invalid
    # And a bad one, unlike none, leaves an audit record.
    trail = door.app.state.service.trail
    eventually(lambda: trail.waiting == 3)


def test_a_handshake_that_nobody_can_judge_yet_is_503(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by its state, which the registry sets anew whenever it looks at its tables.
    monkeypatch.setattr(door.app.state.service.keyring, "lacks", "tokens".__eq__)
    away = (503, {"detail": "Tokens cannot be checked at the moment. Try again."})
    assert door.refused(additional_headers={"Authorization": "Token bad"}) == away
    assert door.app.state.service.trail.waiting == 0


def test_other_paths_are_no_websockets(door: Door) -> None:
    for path in ("/ws/mcp", "/ws/", "/api/systemagents/", "/"):
        with pytest.raises(InvalidStatus, match="403"):
            door.connect(path=path)
    assert requests.get(f"{door.url}/ws/mcp/", timeout=5).status_code == 404


def test_the_prefix_of_the_deployment_stands_before_the_path(open_door: Open) -> None:
    door = open_door(shared={"base_path": "/swf-monitor"})
    with door.connect(path="/swf-monitor/ws/mcp/") as socket:
        say(socket, MESSAGE)
        assert hear(socket)["status"] == "success"
    with pytest.raises(InvalidStatus, match="403"):
        door.connect()


# Bounds and ends


def test_no_more_connections_than_allowed_are_open(open_door: Open, tokens: Tokens) -> None:
    door = open_door(mcp_connections=2)
    header = tokens.header("agents:write")
    with door.connect(), door.connect():
        assert door.refused(additional_headers=header) == (503, {"detail": "Too many connections."})

    def again() -> bool:
        with contextlib.suppress(InvalidStatus), door.connect():
            return True
        return False

    assert eventually(again)


def test_a_silent_connection_ends(open_door: Open) -> None:
    door = open_door(mcp_idle=timedelta(seconds=0.1))
    with door.connect() as socket:
        assert ended(socket) == (1001, "idle")


def test_messages_beyond_the_rate_wait_and_none_is_lost(open_door: Open) -> None:
    door = open_door(mcp_rate=10)
    with door.connect() as socket:
        began = time.monotonic()
        for number in range(25):
            say(socket, {**MESSAGE, "message_id": str(number)})
        assert [hear(socket)["in_reply_to"] for _ in range(25)] == [str(number) for number in range(25)]
        assert time.monotonic() - began > 1.2


def test_a_revoked_token_ends_its_connection(door: Door, tokens: Tokens) -> None:
    header = tokens.header("agents:write")
    claims = jwt.decode(header["Authorization"].split()[1], options={"verify_signature": False})
    with door.shake(additional_headers=header) as socket, door.connect() as other:
        door.app.state.service.keyring.apply_revoked(claims["jti"], b"")
        began = time.monotonic()
        assert ended(socket) == (1008, "Invalid token.")
        assert time.monotonic() - began < 5
        say(other, MESSAGE)
        assert hear(other)["status"] == "success"


def test_an_expired_token_ends_its_connection(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 2 * 3600
    with door.connect() as socket:
        monkeypatch.setattr(authenticator, "time", SimpleNamespace(time=lambda: later))
        assert ended(socket) == (1008, "Invalid token.")


def test_connections_are_told_when_the_service_stops(make_app: Callable[..., FastAPI], tokens: Tokens) -> None:
    app = make_app()
    with contextlib.ExitStack() as stack:
        with serving(app) as served:
            socket = stack.enter_context(Door(app, served.url, served.admin_url, tokens).connect())
            say(socket, MESSAGE)
            assert hear(socket)["status"] == "success"
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert ended(socket) == (1012, "the service stops")
