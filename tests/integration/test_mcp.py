"""The message control protocol's WebSocket through a whole platform."""

import json
import ssl
from contextlib import closing

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.platforms import Up

PATH = "/ws/mcp/"
LIVENESS = {"mcp_version": "1.0", "message_id": "m1", "command": "get_agent_liveness", "payload": {}}


def opened(up: Up, base: str, **headers: str) -> ClientConnection:
    """Shake hands below a base URL, over TLS where it says so."""
    trust = ssl.create_default_context(cafile=up.data / "tls" / "cert.pem") if base.startswith("https") else None
    url = f"{base.replace('http', 'ws', 1)}{PATH}"
    made: ClientConnection = connect(url, proxy=None, ssl=trust, additional_headers=headers)
    return made


@pytest.mark.parametrize("which", ["platform", "campus"])
def test_an_agent_is_seen_alive_over_both_ports_and_below_a_prefix(which: str, request: pytest.FixtureRequest) -> None:
    up: Up = request.getfixturevalue(which)
    with closing(up.client()) as client:
        assert client.post("/api/systemagents/heartbeat/", {"instance_name": "mcp-1"}).ok
    for base in (up.http, up.https):
        with opened(up, base, Authorization=f"Token {up.token}") as socket:
            socket.send(json.dumps(LIVENESS))
            answer = json.loads(socket.recv(timeout=10))
            assert (answer["in_reply_to"], answer["payload"]["mcp-1"]) == ("m1", "alive")
        with pytest.raises(InvalidStatus, match="403"):
            opened(up, base)


def test_a_platform_that_stops_tells_its_connections(tmp_path_factory: pytest.TempPathFactory) -> None:
    up = Up(tmp_path_factory.mktemp("stopping") / "data")
    with up, opened(up, up.http, Authorization=f"Token {up.token}") as socket:
        assert up.stop() < 5
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
